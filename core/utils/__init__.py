"""Small tools that know nothing of images or models: files, settings, reading ahead, provenance."""
