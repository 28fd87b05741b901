"""Survey models beside the stream: products in, results out, by the stream's own delivery loop.

No torch here: what answers is given to the step by the command line.
"""
