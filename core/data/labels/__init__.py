"""Label maps: data sets, their YAML, mask files, and what is wrong with them."""
