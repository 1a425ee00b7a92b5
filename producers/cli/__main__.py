"""`python -m producers.cli`: the program `sluice` where it is not installed, as on a dyno."""

from producers.cli import main

main()
