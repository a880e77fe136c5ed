"""From a request's texts to token ids, and from log-probabilities to a reply."""
