"""The command line from a checkout: ``python cli.py --help``. Installed, it is the program ``aupipe``."""

from aupipe.commands.cli import main

if __name__ == "__main__":
    main()
