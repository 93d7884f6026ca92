"""Tokenizers: strings to token ids, by open_clip or from a model's own vocabulary file."""
