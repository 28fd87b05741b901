"""The Gaussian process: kernel, fit, interpolation on a grid."""
