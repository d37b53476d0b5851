"""`python -m cxguard.cli`: the same as `cxguard`."""

from cxguard.cli.main import main

if __name__ == "__main__":
    main()
