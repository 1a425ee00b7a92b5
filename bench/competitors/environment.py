"""Environment variables that the harness sets for a competitor's processes."""

import os

DATABASE_URL = os.environ["DATABASE_URL"]
REDIS_URL = os.environ["REDIS_URL"]
NAMESPACE = os.environ["BENCH_NAMESPACE"]
"""The prefix of queue and key names."""

PROCESSES = int(os.environ.get("BENCH_PROCESSES", "1"))
"""The number of worker processes that must answer before a driver is ready."""
