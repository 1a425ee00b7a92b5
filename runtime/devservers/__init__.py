"""Servers for trials and tests: an embedded Postgres and Valkey, and the Procfile runner."""
