"""A teacher whose tokens nobody can see: it is asked which response it would pick, and for nothing else."""
