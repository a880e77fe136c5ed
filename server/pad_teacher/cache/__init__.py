"""What need not be computed again: rows scored before, and rows being scored now."""
