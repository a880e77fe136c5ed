"""Files that survive a kill: JSON lines, output directories and checkpoints."""
