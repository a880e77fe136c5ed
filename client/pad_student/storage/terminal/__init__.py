"""What the person at the terminal sees and presses: one status line, lines above it, and Ctrl-C."""
