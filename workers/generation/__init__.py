"""Generation: one engine port, three engines, and the worker that runs them."""
