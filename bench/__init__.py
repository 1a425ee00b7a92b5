"""Measurements of speed and memory, on real servers and real worker processes: `make bench`."""
