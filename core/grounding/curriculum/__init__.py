"""Training on pseudo-labels that a model itself finds reliable: SSA and MSA of CLIP-VG."""
