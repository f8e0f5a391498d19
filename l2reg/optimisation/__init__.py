"""Registration of one pair by optimisation: nothing is trained."""
