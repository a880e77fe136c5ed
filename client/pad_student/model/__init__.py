"""The student's log-likelihoods."""
