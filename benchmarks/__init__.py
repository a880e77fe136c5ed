"""Side-by-side measurements, each one command: ``python -m benchmarks.scoring``, run at the top of the repository."""
