"""What travels: topics, events, ids, cursors, and the bus that carries them."""
