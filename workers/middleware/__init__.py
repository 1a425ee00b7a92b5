"""One concern, one file. The order in which they stand is explained in `workers.app`."""
