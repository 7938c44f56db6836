"""``python -m versemi`` is the command line."""

from versemi.cli import main

main()
