"""Simulators of what surveys see: seeded, vectorised, versioned, each with its prior documented."""
