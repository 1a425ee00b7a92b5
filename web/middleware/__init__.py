"""What is true of every request, one concern a file. `web.app` gives the order."""
