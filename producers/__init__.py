"""Use cases that the command line, the web process and other Python programs share."""
