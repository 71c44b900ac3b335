"""The part of protobuf's wire format that editing the nodes of an ONNX file takes, for devices without onnx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

Value = int | bytes | memoryview

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message: its number in the .proto file, its wire type, and its content not yet decoded."""

    number: int
    kind: int
    value: Value


def read(message: bytes | memoryview) -> list[Field]:
    """Return the fields of a message in their order, without copying. Raises ValueError for other bytes."""
    return list(_fields(memoryview(message)))


def write(fields: list[Field]) -> bytes:
    """Return the message of these fields."""
    parts: list[bytes | memoryview] = []
    for number, kind, value in fields:
        parts.append(_varint(number << 3 | kind))
        if isinstance(value, int):
            parts.append(_varint(value))
            continue
        if kind == BYTES:
            parts.append(_varint(len(value)))
        parts.append(value)
    return b"".join(parts)


def text(number: int, value: str) -> Field:
    """Return a string field."""
    return Field(number, BYTES, value.encode())


def strings(fields: list[Field], number: int) -> list[str]:
    """Return the values of a string field, in order."""
    return [bytes(value).decode() for field, kind, value in fields if field == number and kind == BYTES]


def messages(fields: list[Field], number: int) -> list[list[Field]]:
    """Return the fields of each message in a field, in order."""
    return [read(field.value) for field in fields if field.number == number and not isinstance(field.value, int)]


def integers(fields: list[Field], number: int) -> list[int]:
    """Return the values of a repeated field of signed integers, packed or not, in order."""
    found: list[int] = []
    for field in fields:
        if field.number == number:
            found += [field.value] if isinstance(field.value, int) else _varints(memoryview(field.value))
    return [value - 2**64 if value >= 2**63 else value for value in found]


def message(number: int, fields: list[Field]) -> Field:
    """Return a field that holds a message."""
    return Field(number, BYTES, write(fields))


def _fields(message: memoryview) -> Iterator[Field]:
    position = 0
    while position < len(message):
        tag, position = read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, position = read_varint(message, position)
            yield Field(number, kind, value)
            continue
        if kind == BYTES:
            length, position = read_varint(message, position)
        else:
            length = {FIXED64: 8, FIXED32: 4}.get(kind, -1)
        end = position + length
        if length < 0 or end > len(message):
            raise ValueError("no protobuf message")
        yield Field(number, kind, message[position:end])
        position = end


def _varints(packed: memoryview) -> Iterator[int]:
    position = 0
    while position < len(packed):
        value, position = read_varint(packed, position)
        yield value


def read_varint(message: bytes | memoryview, position: int) -> tuple[int, int]:
    """Return the number at `position`, and the position behind it; ValueError where there is none."""
    value = 0
    for shift in range(0, 70, 7):
        if position == len(message):
            raise ValueError("no protobuf message")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("no protobuf message")


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
