"""The quality of translations: scores, breakdowns, and the comparison of two systems."""
