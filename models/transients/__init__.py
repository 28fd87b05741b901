"""Training and judging the light-curve networks: the tensors come from the rooms that serve."""
