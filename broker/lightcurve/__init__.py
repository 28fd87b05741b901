"""Raw histories to clean light curves: merge, cuts, summary."""
