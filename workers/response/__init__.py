"""What an answer must pass before any of it enters the log."""
