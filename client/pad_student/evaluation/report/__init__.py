"""One page about a run, and its model card: what a run directory holds, in words, tables and curves."""
