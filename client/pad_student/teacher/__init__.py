"""The teacher service's client."""
