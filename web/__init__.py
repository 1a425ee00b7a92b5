"""The HTTP API, for services in any language. Each file is one subject."""
