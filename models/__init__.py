"""Networks, training and weights; imported as ``broker.models`` only."""

if __name__ == "models":
    raise ImportError("import broker.models, never models: two names would mean two copies of every class")
