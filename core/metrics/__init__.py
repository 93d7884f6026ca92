"""Scores from predictions and ground truth as pure functions."""
