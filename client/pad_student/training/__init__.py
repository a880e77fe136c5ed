"""Scored sets to updates: the Trainer, its batches and callbacks."""
