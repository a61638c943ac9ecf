"""The turn itself: a pure state machine over events (machine.py) and the worker that owns partitions (owner.py)."""
