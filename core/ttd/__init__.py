"""Text-Tag Self-Distillation (TTD, ECCV 2024): settings, loss, training task."""
