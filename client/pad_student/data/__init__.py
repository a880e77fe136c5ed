"""Prompts from any file or dataset."""
