"""What a good field minimises: one term a file, 0 at its best, one value per pair."""
