"""The process: memory, garbage collection, the reading thread, logs and metrics."""
