"""How good translations are: scores, breakdowns, comparison of two systems."""
