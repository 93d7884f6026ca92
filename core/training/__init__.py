"""The trainer that every system shares: steps, ranks, checkpoints, logs."""
