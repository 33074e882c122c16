"""The docs site: what `mkdocs.yml` adds to the pages in `docs/`."""
