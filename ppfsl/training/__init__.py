"""Training the embedder on base classes: one loop for all objectives."""
