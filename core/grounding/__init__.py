"""Visual grounding: an image and a phrase give a box (CLIP-VG, TMM 2023, arXiv 2305.08685)."""
