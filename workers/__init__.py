"""The journey of a turn, one folder per step."""
