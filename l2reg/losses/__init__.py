"""Loss terms of training, one per file: each has one value per pair, which is 0 at best."""
