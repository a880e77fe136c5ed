"""Measures a student: grades, win rates, answer files, the report about a run."""
