"""Networks of the survey models' trunks and heads: torch only, tensors in, tensors out."""
