"""Protocols A to G: what is trained on what, judged how, beside what was published; `tocsin evaluate` runs them."""
