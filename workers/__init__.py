"""The dramatiq shell: broker, middleware, thin actors, the chunk runner and the sweeper."""
