"""Tocsin, a real-time alert broker: classified alerts, every packet accounted for."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tocsin")
except PackageNotFoundError:  # a checkout on the path that was never installed
    __version__ = "0+unknown"
