"""Fault injection into the real service, and the checks that nothing was lost."""
