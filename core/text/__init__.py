"""Class names and captions to text embeddings."""
