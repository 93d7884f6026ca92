"""Multi-label recognition: which classes images show, on the sets and labels that papers score."""
