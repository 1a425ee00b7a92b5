"""The work of a job, without any queue library: read a chunk, decide, write, retry and split."""
