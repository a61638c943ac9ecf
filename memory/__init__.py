"""What is remembered: records, recall and selection, and the Postgres they live in."""
