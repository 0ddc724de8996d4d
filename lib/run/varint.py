"""Variable-length integers of protocol buffers: 7 bits per byte, the lowest first.

The highest bit of a byte says that another one follows: 96 01 is 0x16 + (0x01 << 7) = 150.
"""


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """The varint at an offset, and the offset after it.

    Raises:
        IndexError: the data end within it.
        ValueError: it has more than 64 bits.
    """
    value = 0
    for shift in range(0, 70, 7):  # the ten bytes of a 64-bit number
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, offset
    raise ValueError("a number of more than 64 bits")
