"""Phrases with boxes without annotation: templates, relations, captions, and TTD's own maps."""
