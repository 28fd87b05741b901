"""What ZTF sees: labelled light curves in g, r, i of all fourteen classes, with real cadence and depth.

`pointings` says when and how deep, `salt3`, `moved`, `bursts` and `variables` how bright, `observe` what a photometer
and an alert stream make of it, `simulate` puts them together.
"""
