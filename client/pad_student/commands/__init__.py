"""The pad-student command: one file a subcommand, its settings, and how they are read."""
