"""Backbones, the embedder around one, and where its weights come from."""
