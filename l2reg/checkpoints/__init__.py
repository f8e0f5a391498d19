"""Checkpoints: storage, provenance of the weights, and the trained model that one describes."""
