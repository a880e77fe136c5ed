"""Helpers of several tests: fakes, tiny models, processes."""
