"""``python -m plainvision`` is the command line."""

from plainvision.commands import main

main()
