"""What a training run leaves on disk: its folder, log, checkpoints and exports."""
