"""The embedded engine: transformers, with what a batch shares computed once."""
