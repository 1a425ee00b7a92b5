"""What tests, chaos runs and benchmarks share: processes, servers, clients, fixtures, waiting."""
