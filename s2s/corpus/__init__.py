"""The corpus directory that training reads, and its batches."""

from s2s.corpus.directory import Corpus, Manifest

__all__ = ["Corpus", "Manifest"]
