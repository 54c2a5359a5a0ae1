"""Ways to damage a file: blindly, in its headers, and inside with the checksums made to fit."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

SPECIAL = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
Mutation = Callable[[random.Random, bytes], bytes]


def bits(chance: random.Random, data: bytes) -> bytes:
    """One to eight bits inverted."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
    return bytes(made)


def stretch(chance: random.Random, data: bytes) -> bytes:
    """Random bytes over a stretch."""
    place, length = chance.randrange(len(data)), chance.randint(1, 32)
    return data[:place] + chance.randbytes(min(length, len(data) - place)) + data[place + length :]


def cut(chance: random.Random, data: bytes) -> bytes:
    """Cut off at any byte."""
    return data[: chance.randrange(len(data))]


def moved(chance: random.Random, data: bytes) -> bytes:
    """A stretch left out, or there twice."""
    place, length = chance.randrange(len(data)), chance.randint(1, 200)
    part = data[place : place + length]
    return data[:place] + (part * 2 if chance.random() < 0.5 else b"") + data[place + length :]


def field(chance: random.Random, data: bytes) -> bytes:
    """A number of one to eight bytes replaced by an extreme one, near the beginning or the end."""
    width, form = chance.choice(((1, "B"), (2, "H"), (4, "I"), (8, "Q")))
    reach = min(len(data) - width, 600)
    if reach < 1:
        return cut(chance, data)
    place = chance.randrange(reach)
    place = place if chance.random() < 0.7 else len(data) - width - place
    value = chance.choice((*SPECIAL, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), chance.randrange(2 ** (8 * width))))
    packed = struct.pack(chance.choice("<>") + form, value % 2 ** (8 * width))
    return data[:place] + packed + data[place + width :]


BLIND = (bits, stretch, cut, moved, field, field)


def inside(chance: random.Random, data: bytes) -> bytes:
    """One of ``BLIND``, once to three times."""
    for _ in range(chance.randint(1, 3)):
        data = chance.choice(BLIND)(chance, data) or b"\0"
    return data


def png(chance: random.Random, data: bytes) -> bytes:
    """A chunk changed, or what its pixels are compressed from; all checksums fit."""
    chunks, place = [], 8
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    number = chance.randrange(len(chunks) - 1)
    kind, content = chunks[number]
    if kind == b"IDAT" and chance.random() < 0.5:
        content = zlib.compress(inside(chance, zlib.decompress(content)))
    else:
        content = inside(chance, content or b"\0")
    chunks[number] = kind, content
    made = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return data[:8] + made


def matlab(chance: random.Random, data: bytes) -> bytes:
    """The inside of a compressed element changed, compressed again."""
    (length,) = struct.unpack_from("<I", data, 132)
    content = bytearray(zlib.decompress(data[136 : 136 + length]))
    for _ in range(chance.randint(1, 4)):
        # tags are what a parser follows; they stand at multiples of eight, most of them before the numbers
        place = 8 * chance.randrange(len(content) // 8 if chance.random() < 0.5 else 60)
        value = chance.choice((*SPECIAL, chance.randrange(2**32), *range(20)))
        struct.pack_into("<I", content, min(place + 4 * chance.randrange(2), len(content) - 4), value)
    packed = zlib.compress(bytes(content) if chance.random() < 0.8 else cut(chance, bytes(content)))
    return data[:128] + struct.pack("<II", 15, len(packed)) + packed


def archive(chance: random.Random, data: bytes) -> bytes:
    """An array of an npz changed, its checksum made anew."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = {info.filename: source.read(info) for info in source.infolist()}
    name = chance.choice(list(members))
    members[name] = inside(chance, members[name][:128]) + members[name][128:]
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return stored.getvalue()


def header(chance: random.Random, data: bytes) -> bytes:
    """An entry of a safetensors header replaced by junk, its length made to fit; checksums of ours, too."""
    (length,) = struct.unpack_from("<Q", data)
    told = json.loads(data[8 : 8 + length])
    own = "__metadata__" in told and "tokenrank" in told["__metadata__"]
    if own and chance.random() < 0.7:
        described = json.loads(told["__metadata__"]["tokenrank"])
        described.pop("crc32")
        _junk(chance, described)
        text = json.dumps(described, sort_keys=True, separators=(",", ":"))
        described["crc32"] = zlib.crc32(text.encode())
        told["__metadata__"]["tokenrank"] = json.dumps(described, sort_keys=True, separators=(",", ":"))
    else:
        _junk(chance, told)
    text = json.dumps(told).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _junk(chance: random.Random, node: object) -> None:
    """Replace one entry somewhere below."""
    values = (None, True, -1, 0, 1, 2**31, 2**63, 1e308, "", "x" * 300, [], {}, [[[]]], "\u202e\x1b[2J", 3.5)
    while True:
        pairs = list(node.items()) if isinstance(node, dict) else list(enumerate(node))  # type: ignore[call-overload]
        if not pairs:
            return
        key, below = chance.choice(pairs)
        if isinstance(below, dict | list) and below and chance.random() < 0.7:
            node = below
            continue
        node[key] = chance.choice(values)  # type: ignore[index]
        return


REPAIRED: dict[str, Mutation] = {
    "PNG": png,
    "PNG mask": png,
    "PNG labels": png,
    "MATLAB 5, compressed": matlab,
    "npz": archive,
    "npz, compressed": archive,
    "trace of ours": header,
    "safetensors of others": header,
}
"""Kind → a change under checksums that fit."""


def mutated(kind: str, data: bytes, number: int) -> tuple[str, bytes]:
    """Mutation number ``number`` of a kind, the same every time, and what was done."""
    chance = random.Random(f"{kind} {number}")
    if kind in REPAIRED and number % 2:
        return "checksum repaired", REPAIRED[kind](chance, data)
    change = BLIND[number // 2 % len(BLIND)]
    return change.__name__, change(chance, data)
