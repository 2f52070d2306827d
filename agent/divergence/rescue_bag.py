"""A bag of hashes that holds a million in little memory.

Theory of operation. Python's own sets and counters take seventy bytes and more for each
number; this takes twelve to thirty: an array of 64-bit hashes with open addressing and
one of counts. Two things with one hash count as one, which among a million comes to one
chance in ten million.
"""

from array import array

_SMALL = 1 << 10
_MASK64 = (1 << 64) - 1
_SPREAD = 0x9E3779B97F4A7C15
"""An odd number that spreads neighbours (2**64 divided by the golden ratio)."""


class Bag:
    """How often each hash was put in."""

    def __init__(self) -> None:
        self._hashes = array("Q", bytes(8 * _SMALL))
        self._counts = array("I", bytes(4 * _SMALL))
        self._mask = _SMALL - 1
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def add(self, number: int) -> int:
        """Put one in; return how many of it there are now."""
        if self._used * 3 > self._mask * 2:
            self._grow()
        place, mark = self._place(number)
        if not self._hashes[place]:
            self._hashes[place] = mark
            self._used += 1
        self._counts[place] += 1
        return self._counts[place]

    def take(self, number: int) -> bool:
        """Take one out; return whether there was one."""
        place, _ = self._place(number)
        if not self._counts[place]:
            return False
        self._counts[place] -= 1
        return True

    def __contains__(self, number: int) -> bool:
        return self._counts[self._place(number)[0]] > 0

    def _place(self, number: int) -> tuple[int, int]:
        """Return where a number is, or would be, and how it is written."""
        mark = ((number & _MASK64) * _SPREAD & _MASK64) or 1
        hashes, mask = self._hashes, self._mask
        place = mark >> 20 & mask
        while (found := hashes[place]) and found != mark:
            place = (place + 1) & mask
        return place, mark

    def _grow(self) -> None:
        before, counts = self._hashes, self._counts
        size = (self._mask + 1) * 2
        self._mask = size - 1
        self._hashes = array("Q", bytes(8 * size))
        self._counts = array("I", bytes(4 * size))
        hashes, mask = self._hashes, self._mask
        for mark, count in zip(before, counts, strict=True):
            if mark:
                place = mark >> 20 & mask
                while hashes[place]:
                    place = (place + 1) & mask
                hashes[place] = mark
                self._counts[place] = count
