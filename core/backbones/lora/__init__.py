"""LoRA adapters: on a backbone, in files, merged into weights."""
