"""Who may have how much of the teacher, and whose turn it is."""
