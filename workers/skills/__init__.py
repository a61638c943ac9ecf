"""Skills: what their owners declare, how they are found for a plan, and how they are called."""
