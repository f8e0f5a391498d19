"""Inference: registration methods and their outputs: fields, submissions and the container."""
