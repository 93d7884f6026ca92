"""TTD: tag and segment images with words (Text-Tag Self-Distillation, ECCV 2024)."""
