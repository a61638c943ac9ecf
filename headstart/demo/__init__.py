"""The demo service's data and rules: made here, the same on every machine, about nobody."""
