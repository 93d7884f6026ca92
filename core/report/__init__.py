"""Evaluations as one HTML file to show: tables, charts, the best and the worst."""
