"""Damage to the bytes of a file, by name: pure functions of the bytes and a seed.

A mutation takes ``(data, rng, twin)``: the file, the random numbers, and another valid file of the same kind. Those of
a text know its format only as far as they must to hit something that matters; what they make may still be valid.
"""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np

Mutation = Callable[[bytes, Random, bytes], bytes]

DEEP, DIGITS = 2_000, 5_000
ODD_NUMBERS = (
    "nan",
    "NaN",
    "Infinity",
    "-1",
    "0",
    "1e999",
    "1e308",
    "9" * 30,
    "9" * DIGITS,
    '"text"',
    "null",
    "true",
    "[]",
    "{}",
    "0.5",
    "-0.0",
    "2147483648",
    "255",
)
ODD_CELLS = (
    "",
    "nan",
    "inf",
    "-1",
    "1e999",
    "9" * DIGITS,
    "text",
    '"',
    "\x00",
    "../../etc/passwd",
    "/etc/passwd",
    "é" * 300,
    "0",
    "1",
    "=1+1",
    "a\nb",
    " ",
    "anger",
    "train",
    "\ud7ff",
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    1e308,
    10**30,
    "",
    "text",
    "../../x",
    [],
    {},
    [[]],
    {"": ""},
    [None],
    "\x00",
    [1, "2"],
)


def _flip(data: bytes, rng: Random, twin: bytes) -> bytes:
    return _with_byte(data, rng, data[at := rng.randrange(len(data))] ^ 1 << rng.randrange(8), at)


def _with_byte(data: bytes, rng: Random, value: int, at: int | None = None) -> bytes:
    at = rng.randrange(len(data)) if at is None else at
    return data[:at] + bytes([value]) + data[at + 1 :]


def _span(data: bytes, rng: Random) -> tuple[int, int]:
    begin = rng.randrange(len(data))
    return begin, min(len(data), begin + rng.choice((1, 4, 16, 64, 512, 4096)))


def _cut_out(data: bytes, rng: Random, twin: bytes) -> bytes:
    begin, end = _span(data, rng)
    return data[:begin] + data[end:]


def _double(data: bytes, rng: Random, twin: bytes) -> bytes:
    begin, end = _span(data, rng)
    return data[:end] + data[begin:end] + data[end:]


def _blot(data: bytes, rng: Random, twin: bytes) -> bytes:
    begin, end = _span(data, rng)
    return data[:begin] + bytes([rng.choice((0, 0x80, 0xFF))]) * (end - begin) + data[end:]


def _halves(data: bytes, rng: Random, twin: bytes) -> bytes:
    return data[len(data) // 2 :] + data[: len(data) // 2]


def _splice(data: bytes, rng: Random, twin: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + twin[at:]


BYTES: dict[str, Mutation] = {
    "flip a bit": _flip,
    "a byte to 0x00": lambda data, rng, twin: _with_byte(data, rng, 0),
    "a byte to 0xff": lambda data, rng, twin: _with_byte(data, rng, 0xFF),
    "a byte to 0x80": lambda data, rng, twin: _with_byte(data, rng, 0x80),
    "blot": _blot,
    "truncate": lambda data, rng, twin: data[: rng.randrange(len(data))],
    "empty": lambda data, rng, twin: b"",
    "append": lambda data, rng, twin: data + rng.choice((b"\n", b"\0" * 100, b"x", data[:50], twin)),
    "cut out": _cut_out,
    "double a span": _double,
    "swap halves": _halves,
    "the twin": lambda data, rng, twin: twin,
    "half the twin": _splice,
    "random bytes": lambda data, rng, twin: rng.randbytes(rng.choice((1, 8, 100, len(data)))),
    "another encoding": lambda data, rng, twin: rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\n\n")) + data,
}


# --- text ---


def _number(data: bytes, rng: Random, twin: bytes) -> bytes:
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", data))
    if not found:
        return b"1" + data
    spot = rng.choice(found)
    return data[: spot.start()] + rng.choice(ODD_NUMBERS).encode() + data[spot.end() :]


def _digit(data: bytes, rng: Random, twin: bytes) -> bytes:
    spots = [number for number, value in enumerate(data) if 48 <= value < 58] or [0]
    return _with_byte(data, rng, 48 + rng.randrange(10), rng.choice(spots))


def _word(data: bytes, rng: Random, twin: bytes) -> bytes:
    words = sorted(set(re.findall(rb"[a-z_]{3,}", data))) or [b"x"]
    spot = rng.choice(list(re.finditer(rb"[A-Za-z_]{3,}", data)) or [re.match(b"", data)])
    assert spot is not None
    return data[: spot.start()] + rng.choice((*words, b"", b"nan", b"text")) + data[spot.end() :]


def _line_gone(data: bytes, rng: Random, twin: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def _line_twice(data: bytes, rng: Random, twin: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    return b"".join(lines)


def _line_swapped(data: bytes, rng: Random, twin: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines)


TEXT: dict[str, Mutation] = {
    "an odd number": _number,
    "another digit": _digit,
    "another word": _word,
    "a line gone": _line_gone,
    "a line twice": _line_twice,
    "lines changed places": _line_swapped,
    "brackets nested": lambda data, rng, twin: b"[" * DEEP + rng.choice((b"", b"]" * DEEP)),
    "many digits": lambda data, rng, twin: b"9" * DIGITS,
    "null": lambda data, rng, twin: rng.choice((b"null", b"[]", b"{}", b'""', b"0", b"[null]", b"true")),
}


# --- JSON ---


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def _in_json(change: Callable[[Any, Any, Random], None]) -> Mutation:
    def mutate(data: bytes, rng: Random, twin: bytes) -> bytes:
        lines = data.splitlines() if data.count(b"\n{") else [data]
        chosen = rng.randrange(len(lines))
        content = json.loads(lines[chosen])
        if places := _places(content):
            change(*rng.choice(places), rng)
        lines[chosen] = json.dumps(content, indent=1 if len(lines) == 1 else None).encode()
        return b"\n".join(lines) + b"\n"

    return mutate


def _remove(container: Any, key: Any, rng: Random) -> None:
    del container[key]


def _replace(container: Any, key: Any, rng: Random) -> None:
    container[key] = rng.choice(ODD_VALUES)


def _nest(container: Any, key: Any, rng: Random) -> None:
    inner: Any = container[key]
    for _ in range(rng.choice((1, 300))):
        inner = [inner]
    container[key] = inner


def _rename(container: Any, key: Any, rng: Random) -> None:
    if isinstance(container, dict):
        container[f"{key}x"] = container.pop(key)
    else:
        container.append(container[key])


def _one_more(container: Any, key: Any, rng: Random) -> None:
    if isinstance(container, dict):
        container[rng.choice(("", "x", "__class__", "digest"))] = rng.choice(ODD_VALUES)
    else:
        container.insert(key, rng.choice(ODD_VALUES))


def _shift(container: Any, key: Any, rng: Random) -> None:
    """A value of the same type that is not the same: what only a digest can see."""
    value = container[key]
    if isinstance(value, bool):
        container[key] = not value
    elif isinstance(value, int | float):
        container[key] = value + rng.choice((1, -1, 1000))
    elif isinstance(value, str):
        container[key] = value[::-1] + "x"
    else:
        container[key] = type(value)()


JSON = {**BYTES, **TEXT} | {
    "a key gone": _in_json(_remove),
    "an odd value": _in_json(_replace),
    "a nested value": _in_json(_nest),
    "a key renamed": _in_json(_rename),
    "one more": _in_json(_one_more),
    "a plausible value": _in_json(_shift),
}


# --- CSV ---


def _in_csv(change: Callable[[list[list[str]], Random], None]) -> Mutation:
    def mutate(data: bytes, rng: Random, twin: bytes) -> bytes:
        rows = list(csv.reader(io.StringIO(data.decode())))
        change(rows, rng)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()

    return mutate


def _cell(rows: list[list[str]], rng: Random) -> None:
    row = rng.choice(rows)
    row[rng.randrange(len(row))] = rng.choice(ODD_CELLS)


def _column_gone(rows: list[list[str]], rng: Random) -> None:
    column = rng.randrange(len(rows[0]))
    for row in rows:
        del row[column : column + 1]


def _column_twice(rows: list[list[str]], rng: Random) -> None:
    column = rng.randrange(len(rows[0]))
    for row in rows:
        row += row[column : column + 1]


def _short_row(rows: list[list[str]], rng: Random) -> None:
    row = rng.choice(rows)
    del row[rng.randrange(len(row)) :]


CSV = {**BYTES, **TEXT} | {
    "an odd cell": _in_csv(_cell),
    "a column gone": _in_csv(_column_gone),
    "a column twice": _in_csv(_column_twice),
    "a short row": _in_csv(_short_row),
    "an open quote": lambda data, rng, twin: data.replace(b",", b',"', rng.randrange(1, 9)),
    "a long cell": lambda data, rng, twin: data + b"x" * 200_000 + b",",
}


# --- TOML ---


def _toml_value(data: bytes, rng: Random, twin: bytes) -> bytes:
    lines = data.splitlines()
    chosen = rng.choice([number for number, line in enumerate(lines) if b"=" in line] or [0])
    name = lines[chosen].partition(b"=")[0]
    odd = (*ODD_NUMBERS, "1979-05-27", "[[1]]", "{ a = 1 }", '"x" y', "[" * DEEP, "'''", "-inf")
    lines[chosen] = name + b"= " + rng.choice(odd).encode()
    return b"\n".join(lines) + b"\n"


TOML = {**BYTES, **TEXT} | {
    "an odd value": _toml_value,
    "a deep key": lambda data, rng, twin: b".".join([b"a"] * DEEP) + b" = 1\n" + data,
}


# --- arrays ---

_HEADERS = (
    "{'descr': '|O', 'fortran_order': False, 'shape': (18, 68, 2), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 68, 2), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 68, 2), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (18, 68, 2), }",
    "{'descr': '<c8', 'fortran_order': False, 'shape': (9, 68, 2), }",
    "{'descr': '<U9', 'fortran_order': False, 'shape': (9, 68), }",
    "{'descr': [('a', '<f4'), ('b', '<f4')], 'fortran_order': False, 'shape': (18, 68), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (18, 68, 2)",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (9, 68, 2), }",
    "{'descr': '<f4', 'shape': (18, 68, 2), }",
    "[" * 300,
    "(" * DEEP,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * DIGITS + ",), }",
    "__import__('os').abort()",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 68, 2), }",
)


def npy_header(data: bytes, rng: Random, twin: bytes) -> bytes:
    """The same values below another header."""
    length = struct.unpack("<H", data[8:10])[0] if len(data) > 10 else 0
    header = rng.choice(_HEADERS).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data[10 + length :]


def _odd_array(rng: Random, like: np.ndarray) -> np.ndarray:
    flat = np.array(like, np.float64) if like.dtype.kind in "fiu" else np.zeros(3)
    return rng.choice(
        [
            np.full_like(flat, np.nan),
            np.full_like(flat, np.inf),
            flat * 1e30,
            flat[..., None],
            flat[:0] if flat.ndim else flat[None],
            np.array("text"),
            np.array(-1),
            flat.astype(np.complex64),
            np.array(b"x"),
            flat + 1,
            flat.T,
            np.zeros((0, 3)),
        ]
    )


def npy_values(data: bytes, rng: Random, twin: bytes) -> bytes:
    """Another array under a right header."""
    file = io.BytesIO()
    np.save(file, _odd_array(rng, np.load(io.BytesIO(data))))
    return file.getvalue()


def _npz(change: Callable[[dict[str, bytes], Random], None]) -> Mutation:
    def mutate(data: bytes, rng: Random, twin: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            members = {name: old.read(name) for name in old.namelist()}
        change(members, rng)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
            for name, content in members.items():
                new.writestr(name, content)
        return file.getvalue()

    return mutate


def _member_changed(change: Mutation) -> Callable[[dict[str, bytes], Random], None]:
    def mutate(members: dict[str, bytes], rng: Random) -> None:
        name = rng.choice(sorted(members))
        members[name] = change(members[name], rng, b"")

    return mutate


def _member_gone(members: dict[str, bytes], rng: Random) -> None:
    del members[rng.choice(sorted(members))]


def _bomb(members: dict[str, bytes], rng: Random) -> None:
    members[rng.choice(sorted(members))] = bytes(30_000_000)


NPY = {**BYTES, "another header": npy_header, "other values": npy_values}
NPZ = {
    **BYTES,
    "a member gone": _npz(_member_gone),
    "a member with another header": _npz(_member_changed(npy_header)),
    "a member with other values": _npz(_member_changed(npy_values)),
    "a member damaged": _npz(_member_changed(_flip)),
    "a member of zeros": _npz(_bomb),
}

FAMILIES: Mapping[str, Mapping[str, Mutation]] = {
    "bytes": BYTES,
    "text": {**BYTES, **TEXT},
    "json": JSON,
    "csv": CSV,
    "toml": TOML,
    "npy": NPY,
    "npz": NPZ,
}


def changed_by(change: Mutation, data: bytes, rng: Random, twin: bytes) -> bytes:
    """Damage a file; where a mutation leaves it as it was, flip a bit instead."""
    if not data:
        return twin or b"x"
    changed = change(data, rng, twin or data[::-1])
    return changed if changed != data else _flip(data, rng, twin)
