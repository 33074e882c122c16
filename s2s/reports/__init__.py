"""Summaries of models and corpora, and HTML pages."""
