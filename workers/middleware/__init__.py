"""One concern per file. `workers.app` lists them and explains their order."""
