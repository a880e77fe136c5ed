"""What each command does, one file a command: settings in, JSON lines read and written, one closing line."""
