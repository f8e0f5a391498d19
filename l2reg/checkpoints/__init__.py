"""Checkpoints: stored and loaded, what they were trained on, and the model they describe."""
