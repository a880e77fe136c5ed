"""Checks of every reply: possible numbers, and one teacher for the whole run."""
