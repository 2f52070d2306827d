"""`python -m agent` is the same program as the command `splitguard`."""

import sys

from agent.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
