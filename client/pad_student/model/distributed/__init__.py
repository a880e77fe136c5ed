"""Several processes, and weights sharded over them."""
