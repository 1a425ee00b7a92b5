"""ASGI middleware, one concern per file. `web.app` gives the order."""
