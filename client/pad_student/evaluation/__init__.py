"""How good the student has become: grades, win rates, answer files, the report."""
