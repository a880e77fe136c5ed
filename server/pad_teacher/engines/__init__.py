"""Token ids in, float32 log-probabilities out."""
