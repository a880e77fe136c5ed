"""Evaluation during training on held-out rows: answers to prompts, or scored sets."""
