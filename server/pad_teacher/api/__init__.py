"""HTTP: routes, bodies, replies and errors."""
