"""The base of every error that a user can put right; its message is one plain line."""


class StudentError(Exception):
    """Something outside the program is wrong: a file, a setting, a teacher."""


class PromptsError(StudentError):
    """Data that cannot be read, or that does not hold what was expected; names the data, the row and the remedy."""


class EndedByAnother(StudentError):
    """Another process of the run failed; it says itself why."""
