"""A model behind an OpenAI-compatible chat API: questions in words, and only its choice of a letter comes back."""
