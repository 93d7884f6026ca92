"""TCL (CVPR 2023): its masker on a frozen CLIP, the layout of its checkpoint, loading."""
