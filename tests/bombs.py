"""Pictures that a decoder must not believe."""

import struct
import zlib


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes that claims to be huge."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(10000))),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body
