"""Tensors, cards and networks to probabilities and an anomaly score."""
