"""Subscribe to the classified streams."""
