"""Servers for trying and testing: an embedded Postgres and Valkey, and the Procfile runner."""
