"""The routes, one subject a file. Each decides nothing: it calls a producer."""
