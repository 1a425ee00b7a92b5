"""What the harness tells a competitor's processes in their environment."""

import os

DATABASE_URL = os.environ["DATABASE_URL"]
REDIS_URL = os.environ["REDIS_URL"]
NAMESPACE = os.environ["BENCH_NAMESPACE"]
"""Begins the names of queues and keys."""

PROCESSES = int(os.environ.get("BENCH_PROCESSES", "1"))
"""How many worker processes have to answer before a driver is ready."""
