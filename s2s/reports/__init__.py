"""HTML pages and summaries of models and corpora."""
