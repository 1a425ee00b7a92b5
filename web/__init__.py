"""The way in over HTTP, for services in any language. Each file is one subject."""
