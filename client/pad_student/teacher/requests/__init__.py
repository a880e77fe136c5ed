"""Response sets in requests of a good size, several on their way, and their results in order."""
