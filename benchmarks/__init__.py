"""Side-by-side measurements, whose results are in README.md."""
