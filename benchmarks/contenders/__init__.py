"""The programs that are compared, one file each; each runs in a worker process of its own."""
