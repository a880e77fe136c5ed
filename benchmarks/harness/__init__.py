"""What the measurements share: workloads, models, processes, rounds and tables."""
