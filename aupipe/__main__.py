"""``python -m aupipe``: the command line."""

from aupipe.commands.cli import main

if __name__ == "__main__":
    main()
