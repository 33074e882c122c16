"""From source tokens to translations: search, continuous batching, the translator."""
