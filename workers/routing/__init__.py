"""The first step: which agent takes a turn, or none."""
