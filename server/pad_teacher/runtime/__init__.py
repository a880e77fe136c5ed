"""How this process is tuned, and what it reports of itself."""
