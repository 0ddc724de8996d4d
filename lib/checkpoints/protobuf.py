"""Decoder of protocol buffer messages, for the few messages in TensorFlow checkpoints.

A message is a sequence of fields, each a tag (field number and wire type) and a value:

    08 96 01            field 1, varint 150
    12 03 61 62 63      field 2, 3 bytes: abc, a string or another message
    35 01 00 00 00      field 6, 4 bytes: fixed32
"""

from dataclasses import dataclass

from lib.run import varint

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


class DecodeError(Exception):
    """The bytes are not a message; the error says how."""


@dataclass(frozen=True)
class Message:
    """The fields of a message: number -> values in their order."""

    fields: dict[int, list[int | bytes]]

    def number(self, field: int) -> int:
        """The last value of a varint field; 0 if there is none.

        Raises:
            DecodeError: it is not a varint.
        """
        value = self.fields.get(field, [0])[-1]
        if not isinstance(value, int):
            raise DecodeError(f"field {field} is not a number")
        return value

    def messages(self, field: int) -> list[bytes]:
        """All values of a repeated field of strings, messages or fixed numbers.

        Raises:
            DecodeError: one is a varint.
        """
        values = self.fields.get(field, [])
        found = [value for value in values if isinstance(value, bytes)]
        if len(found) < len(values):
            raise DecodeError(f"field {field} is a number")
        return found

    def message(self, field: int) -> bytes:
        """The last value of such a field; empty if there is none."""
        return self.messages(field)[-1] if field in self.fields else b""


def decode(data: bytes) -> Message:
    """The fields of a serialised message.

    Raises:
        DecodeError: it is damaged.
    """
    fields: dict[int, list[int | bytes]] = {}
    offset = 0
    while offset < len(data):
        tag, offset = read_varint(data, offset)
        wire_type = tag & 7
        if wire_type == _VARINT:
            number, offset = read_varint(data, offset)
            fields.setdefault(tag >> 3, []).append(number)
            continue
        if wire_type == _LENGTH_DELIMITED:
            size, offset = read_varint(data, offset)
        elif wire_type in (_FIXED32, _FIXED64):
            size = 4 if wire_type == _FIXED32 else 8
        else:
            raise DecodeError(f"a field of wire type {wire_type}")
        if offset + size > len(data):
            raise DecodeError("a field that is cut off")
        fields.setdefault(tag >> 3, []).append(data[offset : offset + size])
        offset += size
    return Message(fields)


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """The varint at an offset, and the offset after it.

    Raises:
        DecodeError: the data end, or it has more than 64 bits.
    """
    try:
        return varint.read_varint(data, offset)
    except IndexError:
        raise DecodeError("a number that is cut off") from None
    except ValueError as failure:
        raise DecodeError(str(failure)) from None
