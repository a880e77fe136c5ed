"""The evidence: a grid of runs in the tiny world, each a committed file, and the page that is made of them."""
