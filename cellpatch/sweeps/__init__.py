"""Jobs of a grid and their status."""
