"""`python -m cli`: the program `sluice` where it is not installed, as on a dyno."""

from cli import main

main()
