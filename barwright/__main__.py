"""`python -m barwright` is the `barwright` command."""

from barwright.cli import main

main()
