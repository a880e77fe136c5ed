"""What several tests need: fakes, tiny models, processes."""
