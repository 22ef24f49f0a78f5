"""Objectives: which images make a training batch, and what the loss is. One file a kind."""
