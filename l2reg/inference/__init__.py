"""From a trained or training-free model to fields on disk."""
