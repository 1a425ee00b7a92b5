"""Shared code of tests, chaos runs and benchmarks: processes, servers, clients,
fixtures, waiting.
"""
