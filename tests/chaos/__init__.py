"""A storm of faults over the real service, and the checks that nothing was lost in it."""
