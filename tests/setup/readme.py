"""Write the README's table of verdicts between its markers, from the rule table.

Theory of operation. The text between the two markers belongs to this script: `make
readme` writes it, and tests/shell/test_readme.py is red while it is not what the code
says.
"""

import sys
from pathlib import Path

from agent.core.manual import markdown

BEGIN = "<!-- The table is written by `make readme` from the rule table. -->"
END = "<!-- End of the table. -->"
README = Path(__file__).parents[2] / "README.md"


def written(text: str) -> str:
    """Return the README's text with its table as the code has it now.

    Raises ValueError where a marker is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README lacks a marker: {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{markdown()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
    sys.stderr.write("wrote the table of verdicts into README.md\n")
