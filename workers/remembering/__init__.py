"""The last step of the journey: what the log says becomes rows and memories in Postgres, off the hot path."""
