"""Side-by-side measurements; the results stand in README.md."""
