"""Chains for the page's engine with right answers in float64, by NumPy alone: slices, what is asked, maps and limits.

``write(folder)`` makes ``cases.json``, ``slices.bin`` and ``answers.bin`` there, which node/golden.test.js reads. That
takes a second or two, so that no vectors are kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

BOUNCES = 20
MOST = {"int16": 32767, "int8": 127, "uint16": 65535, "uint8": 255}
SIZES = ((1, 1), (2, 32), (3, 64), (15, 80), (16, 1), (17, 32), (257, 64), (1025, 80))
"""Tokens and channels."""


@dataclass
class Case:
    """One chain and what is asked of it.

    Attributes:
        name: what is special about it.
        stored: as in types.js.
        slice: its bytes.
        matrices: (heads, N, N) in float64, of what the slice holds.
        heads: numbers of the heads that are mixed, and their weights.
        keep: tokens that are left, None for all.
        starts: tokens.
        alphas: probabilities of following attention; 1 only where the limit is unique.
        backward: whether every token is attended to by somebody.
    """

    name: str
    stored: dict[str, Any]
    slice: bytes
    matrices: np.ndarray
    heads: list[tuple[int, float]] = field(default_factory=lambda: [(0, 1.0)])
    keep: list[int] | None = None
    starts: tuple[int, ...] = (0,)
    alphas: tuple[float, ...] = (0.5, 0.99, 1.0)
    backward: bool = True

    @property
    def matrix(self) -> np.ndarray:
        """The chain of the heads on the tokens that are left, rows divided by their sums."""
        total = sum(weight for _, weight in self.heads)
        places = [self.stored["heads"].index(head) for head, _ in self.heads]
        mixed = sum(w / total * self.matrices[p] for p, (_, w) in zip(places, self.heads, strict=True))
        if self.keep is not None:
            mixed = mixed[np.ix_(self.keep, self.keep)]
        return mixed / mixed.sum(-1, keepdims=True)


def walks(matrix: np.ndarray, start: np.ndarray, alpha: float, backward: bool) -> tuple[np.ndarray, np.ndarray]:
    """Maps after 0 … 20 steps, (21, N), and their limit, (N,), by a direct solve."""
    n = len(matrix)
    if backward:
        matrix = (matrix / matrix.sum(0)).T
    maps = [start]
    for _ in range(BOUNCES):
        maps.append(alpha * maps[-1] @ matrix + (1 - alpha) / n)
    if alpha < 1:
        limit = np.linalg.solve(np.eye(n) - alpha * matrix.T, np.full(n, (1 - alpha) / n))
    else:
        equations = np.eye(n) - matrix.T
        equations[-1] = 1  # any of them follows from the others
        limit = np.linalg.solve(equations, np.append(np.zeros(n - 1), 1.0))
    return np.array(maps), limit


def qk(
    q: np.ndarray, k: np.ndarray, type: str = "int16", causal: bool = False, names: list[int] | None = None
) -> dict[str, Any]:
    """``stored``, ``slice`` and ``matrices`` of queries (heads, N, d) and keys (key heads, N, d)."""
    wide, parts = [], [[], []]  # type: ignore[var-annotated]
    for x in (q, k):
        halves = ((np.abs(x).max(-1) / MOST[type]).astype("<f4").view("<u4") >> 16).astype("<u2") + np.uint16(1)
        scales = (halves.astype("<u4") << 16).view("<f4")
        step = scales.astype("f8")[..., None]
        whole = np.rint(np.clip(x / step, -MOST[type], MOST[type])).astype(f"<i{2 if type == 'int16' else 1}")
        wide.append(whole * scales.astype("f8")[..., None])
        parts[0].append(_padded(whole.tobytes()))
        parts[1].append(_padded(halves.tobytes()))
    scores = wide[0] @ np.repeat(wide[1], len(q) // len(k), 0).swapaxes(-1, -2)
    if causal:
        scores[:, np.triu(np.ones(scores.shape[-2:], bool), 1)] = -np.inf
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    stored = _stored("qk", type, q.shape[-1], names or list(range(len(q))), len(k), causal)
    return {
        "stored": stored,
        "slice": b"".join(parts[0] + parts[1]),
        "matrices": scores / scores.sum(-1, keepdims=True),
    }


def weights(matrices: np.ndarray, type: str = "uint16", causal: bool = False) -> dict[str, Any]:
    """The same of weights (heads, N, N), stored as roots."""
    largest = matrices.max(-1)
    roots = np.rint(np.sqrt(matrices / largest[..., None]) * MOST[type]).astype(f"<u{2 if type == 'uint16' else 1}")
    squares = roots.astype("f8") ** 2
    slice = roots.tobytes()
    stored = _stored("weights", type, 0, list(range(len(matrices))), len(matrices), causal)
    return {"stored": stored, "slice": slice, "matrices": squares / squares.sum(-1, keepdims=True)}


def cases() -> list[Case]:
    """All of them; names are their keys."""
    rng = np.random.default_rng(16)

    def random(heads: int, n: int, d: int, times: float = 1.0) -> np.ndarray:
        return times * rng.standard_normal((heads, n, d)) / max(d, 2) ** 0.25

    def rows(heads: int, n: int) -> np.ndarray:
        values = rng.random((heads, n, n)) ** 6
        return values / values.sum(-1, keepdims=True)

    found = []
    for n, d in SIZES:
        for causal in (False, True):
            made = qk(random(2, n, d, 1.5), random(2, n, d, 1.5), causal=causal)
            name = f"{n} tokens of {d} channels{', causal' if causal else ''}"
            found.append(Case(name, heads=[(0, 0.3), (1, 1.2)], starts=(n // 2,), **made))
    eye, cycle = np.eye(5)[None], np.eye(4)[None][:, [1, 0, 3, 2]]
    blocks = np.zeros((1, 9, 9))
    blocks[:, :4, :4], blocks[:, 4:, 4:] = rows(1, 4), rows(1, 5)
    # two sides that only see each other, uneven: period two, one stationary vector
    sides = np.zeros((1, 7, 7))
    sides[:, :3, 3:], sides[:, 3:, :3] = rows(1, 7)[:, :3, 3:], rows(1, 7)[:, 3:, :3]
    sides /= sides.sum(-1, keepdims=True)
    huge, small = random(1, 16, 4), random(1, 16, 4)
    huge[0, 3], small[0, 5] = [40, 0, 0, 0], [12, 0, 0, 0]
    grouped = qk(random(6, 33, 8), random(2, 33, 8), names=[0, 1, 4, 5, 8, 11])
    masked, text = qk(random(2, 40, 8), random(2, 40, 8)), qk(random(2, 40, 8), random(2, 40, 8), causal=True)
    few = [i for i in range(40) if i % 3]
    return [
        *found,
        Case("identity", alphas=(0.5, 0.99), **weights(eye)),
        Case("cycle of two", alphas=(0.5, 0.99), **weights(cycle)),
        Case("two sides", starts=(1, 5), **weights(sides)),
        Case("reducible", alphas=(0.5, 0.99), starts=(6,), **weights(blocks)),
        Case("one huge logit", starts=(3,), **qk(huge, small)),
        Case("weights", heads=[(1, 1.0), (2, 2.0)], starts=(30,), **weights(rows(3, 33))),
        Case("weights of eight bits, causal", starts=(30,), **weights(_causal(rows(1, 33)), "uint8", True)),
        Case("int8", starts=(7, 8, 9), **qk(random(1, 50, 16), random(1, 50, 16), "int8")),
        Case("three heads share keys", heads=[(11, 1.0), (1, 0.5)], starts=(2,), **grouped),
        Case("some are left out", heads=[(0, 1.0), (1, 1.0)], keep=few, starts=(5,), **masked),
        Case("some are left out, causal", heads=[(0, 1.0), (1, 3.0)], keep=few, starts=(38, 4), **text),
        Case("one is left", keep=[17], starts=(17,), **masked),
        Case("weights, some are left out", keep=list(range(3, 33)), starts=(8,), **weights(rows(1, 33))),
    ]


def write(folder: Path) -> list[Case]:
    """The files that the test in Node reads; numbers in ``answers.bin`` are float64, maps and limit of each answer."""
    slices, answers, index, at = [], [], [], [0, 0]
    made = cases()
    for case in made:
        n = case.matrices.shape[-1]
        kept = list(range(n)) if case.keep is None else case.keep
        start = np.zeros(len(kept))
        start[[kept.index(token) for token in case.starts]] = 1 / len(case.starts)
        asked = []
        for alpha in case.alphas:
            for direction in ("forward", "backward") if case.backward else ("forward",):
                maps, limit = walks(case.matrix, start, alpha, direction == "backward")
                whole = np.zeros((BOUNCES + 2, n))
                whole[:, kept] = np.vstack([maps, limit])
                answers.append(whole.tobytes())
                asked.append({"alpha": alpha, "direction": direction, "at": at[1]})
                at[1] += len(answers[-1])
        index.append(
            {
                "name": case.name, "stored": case.stored, "count": n, "at": at[0], "length": len(case.slice),
                "heads": case.heads, "starts": case.starts, "asked": asked,
                "keep": None if case.keep is None else [int(token in case.keep) for token in range(n)],
            }
        )  # fmt: skip
        slices.append(case.slice)
        at[0] += len(case.slice)
    (folder / "slices.bin").write_bytes(b"".join(slices))
    (folder / "answers.bin").write_bytes(b"".join(answers))
    (folder / "cases.json").write_text(json.dumps(index))
    return made


def _causal(matrices: np.ndarray) -> np.ndarray:
    lower = np.tril(matrices)
    return lower / lower.sum(-1, keepdims=True)


def _stored(kind: str, type: str, size: int, heads: list[int], key_heads: int, causal: bool) -> dict[str, Any]:
    return {
        "kind": kind, "type": type, "bytes": [0, 0], "size": size, "heads": heads, "keyHeads": key_heads,
        "causal": causal, "errors": {"entry": 0, "bounce": 0, "tokenrank": 0},
    }  # fmt: skip


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)
