"""TCL training: text-grounded contrastive learning of a masker on a frozen CLIP (CVPR 2023)."""
