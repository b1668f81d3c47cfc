"""``python -m jobs.cli``: the command line without its installed script."""

from jobs.cli import main

if __name__ == "__main__":
    main()
