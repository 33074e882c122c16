"""The HTTP service without Ray: an engine that batches sentences and an app that speaks HTTP."""
