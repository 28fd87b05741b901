"""Types that flow between stages, reason codes, units, names and settings: floor 0."""
