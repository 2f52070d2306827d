"""httpx, without what an agent has no use for.

Theory of operation. httpx would import its own command line, which takes 5 MB; and its
lower half looks for sniffio, which nothing here needs, on the disk, ten times in each
request. Both are said to be absent before httpx is imported for the first time.
"""

import sys

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type] # says: not there
if "sniffio" not in sys.modules:
    sys.modules["sniffio"] = None  # type: ignore[assignment] # says: not there

import httpx  # noqa: E402 - only now

__all__ = ["httpx"]
