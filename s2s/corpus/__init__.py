"""Corpus directories: made from any source of sentence pairs, and opened."""

from s2s.corpus.directory import Corpus, Manifest
from s2s.corpus.pipeline import prepare
from s2s.corpus.sources import Source

__all__ = ["Corpus", "Manifest", "Source", "prepare"]
