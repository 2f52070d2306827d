"""CRC-32C (Castagnoli), which PostgreSQL puts on pg_control and on WAL records.

Theory of operation. One table look-up a byte, about 10 MB/s: meant for the few
hundred bytes of a control file or of a promotion's record, not for whole segments.
"""

_POLYNOMIAL = 0x82F63B78  # reflected


def _make_table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        crc = index
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _make_table()


def crc32c(data: bytes) -> int:
    """Return the checksum of `data`; 0xE3069283 for the digits 1 to 9."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
