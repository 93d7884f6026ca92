"""Files of tensors: told by their content, read as data, written whole; nothing in them runs."""
