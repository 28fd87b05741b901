"""Archives of packets: read, replay, simulate."""
