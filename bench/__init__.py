"""Measurements on real servers and real worker processes: `make bench`."""
