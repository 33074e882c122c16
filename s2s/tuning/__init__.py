"""Sweeps: which settings vary, which trials are run, and what became of them."""
