"""What travels on the bus, and how: topics, events, ids, envelope, lanes, settings and the broker itself."""
