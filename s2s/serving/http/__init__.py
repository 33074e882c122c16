"""The HTTP interface: routes, schemas, API keys, the web page."""
