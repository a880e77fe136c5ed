"""Pages that a browser shows: they need no key and no other host."""
