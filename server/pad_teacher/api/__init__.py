"""HTTP: bytes in, replies and errors out."""
