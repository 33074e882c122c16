"""The corpus directory that training reads: manifest, cleaning rules, and batches."""

from s2s.corpus.directory import Corpus, Manifest

__all__ = ["Corpus", "Manifest"]
