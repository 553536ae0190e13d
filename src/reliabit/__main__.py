"""`python -m reliabit`: the command line of `reliabit`, where its script is not on the path."""

from reliabit.cli import main

if __name__ == "__main__":
    main()
