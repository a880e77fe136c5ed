"""Responses from the student."""
