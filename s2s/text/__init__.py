"""Text to token ids and back: normalisation, vocabularies, sentences and languages."""
