"""What tests, storms and benchmarks share: processes, servers, clients, fixtures, waiting."""
