"""The routes, one subject per file. They contain no rules: they call producers."""
