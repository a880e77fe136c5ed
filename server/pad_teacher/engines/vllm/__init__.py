"""vLLM as engine."""
