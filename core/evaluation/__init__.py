"""Result folders and held-out sets against ground truth."""
