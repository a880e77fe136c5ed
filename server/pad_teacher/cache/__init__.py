"""Reuse: rows scored before, and rows being scored now, are not computed again."""
