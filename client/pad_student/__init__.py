"""The student's side: sample, score over HTTP, preference maths, training."""
