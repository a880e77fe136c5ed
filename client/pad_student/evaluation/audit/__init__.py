"""Which of a teacher's signals to trust: how often each ranks the better response of a set of known quality first."""
