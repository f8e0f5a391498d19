"""Networks that predict a displacement field."""
