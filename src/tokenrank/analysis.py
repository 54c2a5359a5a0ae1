"""``analyze``: from a picture or a text to everything that one layer's attention says about it, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import PIL.Image
import torch
from torch import Tensor

from .chain import AttentionChain, Start, TokenMap, start_distribution
from .errors import CaptureError, InputError, LayoutError, NotFoundError, TokenRankError, nearest
from .layout import Grid, Point, TokenLayout, at
from .markov import Certificate, Lambda2
from .models import ImageSource, Modality, Model, load, read_image
from .recording import LayerSelection, matches_name
from .trace import Trace, capture

HeadChoice: TypeAlias = Literal["lambda2", "uniform"] | int
Progress: TypeAlias = Callable[[str], None]

BOUNCES = (1, 2, 4, 8)
CENTRE = at(0.5, 0.5)


def default_layer(count: int) -> int:
    """The layer looked at where none is named: the last one of the first two thirds.

    Early layers attend to neighbours, the last ones to whatever the training objective needs;
    objects are best seen in between (layer 3 of 0 … 5, 7 of 0 … 11, 15 of 0 … 23).
    """
    return max(0, (2 * count - 1) // 3)


@dataclass(frozen=True, eq=False)
class Analysis:
    """What ``analyze`` found. Batch size one: every chain is (heads, N, N), every map (N,).

    All numbers are about the same tokens: the picture's patches where it was restricted to them,
    otherwise all tokens of the sequence.

    Attributes:
        source: the upright RGB picture, or the token strings of the text.
        model: the model's name.
        chains: layer name → (heads, N, N), in the order in which the layers ran.
        lambda2: |λ2| of every head of every layer, with residual and ``uncertain``, (layers,
            heads); a layer with fewer heads than another is filled up with NaN.
        layer: name of the layer that the rest is about.
        heads: how its heads became one chain: "lambda2", "uniform", or the number of one head.
        chain: that chain, (N, N).
        chain_lambda2: its own |λ2|, with residual, ().
        start: where the walk begins, as given or by default.
        start_values: the same as a distribution over tokens, (N,) in float64.
        bounces: n → map after n bounces from the start; n = 1 is row selection.
        forward: TokenRank, where attention arrives.
        backward: TokenRank of the column-normalised reversed chain, where attention comes from.
        alpha: probability of following attention in TokenRank.
        restricted: whether CLS and registers were dropped and the rows renormalised.
        skipped: layer name → why it is not in ``chains``.
    """

    source: PIL.Image.Image | tuple[str, ...]
    model: str
    chains: Mapping[str, AttentionChain]
    lambda2: Lambda2
    layer: str
    heads: HeadChoice
    chain: AttentionChain
    chain_lambda2: Lambda2
    start: Start
    start_values: Tensor
    bounces: Mapping[int, TokenMap]
    forward: TokenMap
    backward: TokenMap
    alpha: float
    restricted: bool
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Modality:
        """What was read: "image" or "text"."""
        return "image" if isinstance(self.source, PIL.Image.Image) else "text"

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in order."""
        return tuple(self.chains)

    @property
    def layer_index(self) -> int:
        """Place of ``layer`` among ``layers``, from zero."""
        return self.layers.index(self.layer)

    @property
    def layout(self) -> TokenLayout | None:
        """Which token of ``chain`` is what."""
        return self.chain.layout

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of the picture's patches; None for text."""
        layout = self.layout
        grid = None if layout is None or not layout.grids else layout.grids[layout.picture]
        return grid if grid is None or len(grid) == 2 else None

    def table(self) -> list[dict[str, Any]]:
        """One row a layer and head: layer, name, head, lambda2, residual, uncertain."""
        return [
            {
                "layer": place,
                "name": name,
                "head": head,
                "lambda2": float(self.lambda2.values[place, head]),
                "residual": float(self.lambda2.certificate.residual[place, head]),
                "uncertain": bool(self.lambda2.certificate.uncertain[place, head]),
            }
            for place, (name, chain) in enumerate(self.chains.items())
            for head in range(chain.batch[-1])
        ]

    def tokens(self) -> list[dict[str, Any]]:
        """One row a token: what it is, its share of the start, of each bounce and of TokenRank.

        Columns: token, span, row and column (patches) or text (words), start, bounce_1 …,
        tokenrank, tokenrank_backward.
        """
        maps = {f"bounce_{n}": found.values for n, found in self.bounces.items()}
        maps |= {"tokenrank": self.forward.values, "tokenrank_backward": self.backward.values}
        numbers = {name: values.tolist() for name, values in ({"start": self.start_values} | maps).items()}
        labels = _token_labels(self.layout, self.chain.num_tokens)
        return [label | {name: values[i] for name, values in numbers.items()} for i, label in enumerate(labels)]

    def facts(self) -> dict[str, Any]:
        """What was done, as plain values: model, layer, heads, start, alpha, certificates, …"""
        start = self.start
        return {
            "model": self.model,
            "layer": self.layer_index,
            "name": self.layer,
            "layers": len(self.layers),
            "heads": self.heads,
            "lambda2": float(self.chain_lambda2.values),
            "lambda2_uncertain": bool(self.chain_lambda2.certificate.uncertain),
            "alpha": self.alpha,
            "start": [start.x, start.y]
            if isinstance(start, Point)
            else start
            if isinstance(start, str | int)
            else None,
            "bounces": list(self.bounces),
            "restricted_to_patches": self.restricted,
            "tokens": self.chain.num_tokens,
            "grid": None if self.grid is None else list(self.grid),
            "tokenrank": str(self.forward.certificate),
            "tokenrank_backward": str(self.backward.certificate),
            "skipped": dict(self.skipped),
        }

    def __repr__(self) -> str:
        place = f"layer {self.layer_index} of {len(self.layers)} ({self.layer})"
        return f"Analysis({self.kind}, {self.model!r}, {place}, heads={self.heads!r}, {self.chain.num_tokens} tokens)"


def analyze(
    source: ImageSource | str,
    model: str | os.PathLike[str] | Model = "bundled",
    layer: str | int | None = None,
    heads: HeadChoice = "lambda2",
    start: Start | None = None,
    bounces: Sequence[int] = BOUNCES,
    alpha: float = 0.99,
    size: int | None = None,
    restrict: bool = True,
    layers: LayerSelection = None,
    kind: Modality | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """Everything about one picture or one text: capture, |λ2| of all heads, bounces, TokenRank.

    Args:
        source: a picture (path, PIL image, array, tensor), or a text where the model reads text.
        model: a name for ``tr.load``, or a loaded model.
        layer: the layer for the maps: its number among the layers (negative from the last), its
            name, the name of a module above it or a glob that fits one layer; two thirds up the
            stack by default (``default_layer``).
        heads: "lambda2" (heads weighted by |λ2|), "uniform", or the number of one head.
        start: as in ``AttentionChain.bounce``; by default the centre of the picture, or the whole
            text evenly. Token numbers count the tokens of the chain: patches, where restricted.
        bounces: numbers of bounces to show.
        alpha: probability of following attention in TokenRank.
        size: long side in pixels that the model gets; its own default where None.
        restrict: pictures only: drop CLS and registers and renormalise the rows, as for the
            vision transformers of the paper; False keeps all tokens.
        layers: which layers to look at, as in ``tr.capture``; all by default.
        kind: which half of a dual encoder to take, "image" or "text".
        progress: called with a few words before each stage.

    Raises:
        InputError: a picture, a text or an argument that cannot be used.
        NotFoundError: no such model, layer, head or word.
        CaptureError: no layer has a square attention over one sequence.
        LayoutError: it is unknown which tokens are the picture.

    Source: "Attention (as Discrete-Time Markov) Chains" (NeurIPS 2025).
    """
    steps = _checked_bounces(bounces)
    _check_heads(heads)
    if isinstance(alpha, bool) or not 0 <= alpha <= 1:
        raise InputError(f"alpha = {alpha}, expected a probability from 0 to 1, such as 0.99")
    report = progress or (lambda words: None)

    if not isinstance(model, Model):
        report("loading the model")
        model = load(model, kind=kind)
    elif kind is not None and model.kind != kind:
        raise InputError(f"model {model.name!r} reads {model.kind}, but kind={kind!r} was asked; leave kind out")

    report("running the model")
    content = read_image(source) if model.kind == "image" else source
    inputs = model.prepare(content, size)
    expected = model.layout_for(inputs)
    with capture(model, layers) as trace:
        model.forward(inputs)
    if model.kind == "text":
        trace.layout = expected
    full, skipped = _square_chains(trace, expected)
    names = list(full)
    chosen = find_layer(layer, names)

    restricted = model.kind == "image" and restrict
    if restricted:
        full = {name: chain.restrict(_picture_span(chain, name)) for name, chain in full.items()}
    if isinstance(heads, int):
        _check_head_number(heads, full[names[chosen]], names[chosen])

    slow: list[Lambda2] = []
    for place, chain in enumerate(full.values()):
        report(f"|λ2| of layer {place + 1} of {len(names)}")
        slow.append(chain.lambda2())

    report("bounces and TokenRank")
    chain = _one_chain(full[names[chosen]], heads, slow[chosen])
    if start is None:
        start = CENTRE if model.kind == "image" else "text"
    begin = start_distribution(start, chain.shape, chain.layout)
    shown = content if isinstance(content, PIL.Image.Image) else tuple(expected.tokens or ()) if expected else ()
    return Analysis(
        source=shown,
        model=model.name,
        chains=full,
        lambda2=_stacked(slow),
        layer=names[chosen],
        heads=heads,
        chain=chain,
        chain_lambda2=slow[chosen][heads] if isinstance(heads, int) else chain.lambda2(),
        start=start,
        start_values=begin,
        bounces=_bounced(chain, begin, steps),
        forward=chain.tokenrank(alpha),
        backward=chain.tokenrank(alpha, direction="backward"),
        alpha=float(alpha),
        restricted=restricted,
        skipped=skipped,
    )


def find_layer(layer: str | int | None, names: Sequence[str]) -> int:
    """The place of a layer among ``names``; see ``analyze``.

    Raises:
        NotFoundError: none fits, or several do; the message has the nearest names.
    """
    count = len(names)
    if layer is None:
        return default_layer(count)
    if isinstance(layer, int):
        if not -count <= layer < count:
            raise NotFoundError(
                f"no layer {layer}: the model has {count}, expected a number from {-count} to {count - 1}"
            )
        return layer % count
    if layer in names:
        return names.index(layer)
    fitting = [place for place, name in enumerate(names) if matches_name(layer, name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        found = ", ".join(repr(names[place]) for place in fitting[:3]) + (" …" if len(fitting) > 3 else "")
        raise NotFoundError(
            f"layer {layer!r} fits {len(fitting)} layers: {found}; name one of them, or give its number"
        )
    raise NotFoundError(f"no layer {layer!r}; {nearest(layer, names)}; or a number from 0 to {count - 1}")


def _square_chains(trace: Trace, expected: TokenLayout | None) -> tuple[dict[str, AttentionChain], dict[str, str]]:
    """The chains (heads, N, N) of all layers that have one for the one input; and why others have none."""
    chains: dict[str, AttentionChain] = {}
    skipped: dict[str, str] = {}
    errors: list[TokenRankError] = []
    calls: dict[str, int] = {}
    for place, record in enumerate(trace.records):
        calls[record.name] = calls.get(record.name, 0) + 1
        # layers may share one module, as in ALBERT; then each call is a layer
        name = record.name if calls[record.name] == 1 else f"{record.name}#{calls[record.name]}"
        try:
            _check_one_input(record.shape[:-2], name)
            chains[name] = _of_one_input(trace[place], expected)
        except (CaptureError, LayoutError) as error:
            skipped[name] = str(error)
            errors.append(error)
    if not chains:
        raise type(errors[0])(str(errors[0])) from errors[0]
    return chains, skipped


def _check_one_input(batch: torch.Size, name: str) -> None:
    if not batch:
        raise CaptureError(f"the attention of {name!r} has no dimension of heads; use tr.capture and AttentionChain")
    if any(n != 1 for n in batch[:-1]):
        raise CaptureError(
            f"the attention of {name!r} has leading dimensions {tuple(batch)} for one input, expected (1, heads): it "
            "looks at windows or branches apart; use tr.capture and choose among them"
        )


def _of_one_input(chain: AttentionChain, expected: TokenLayout | None) -> AttentionChain:
    """The chain without its batch dimensions of one, with a layout where one is known."""
    one = chain[(0,) * (len(chain.batch) - 1)] if len(chain.batch) > 1 else chain
    if one.layout is None and expected is not None and expected.num_tokens == one.num_tokens:
        return AttentionChain.from_operator(one.operator, expected)
    return one


def _picture_span(chain: AttentionChain, name: str) -> str:
    if chain.layout is None:
        raise LayoutError(
            f"which of the {chain.num_tokens} tokens of {name!r} are the picture is unknown; look at all tokens with "
            "restrict=False (--all-tokens), or use tr.capture(model, layout=...)"
        )
    return chain.layout.picture


def _one_chain(chain: AttentionChain, heads: HeadChoice, slow: Lambda2) -> AttentionChain:
    if isinstance(heads, int):
        return chain[heads]
    if heads == "uniform" or not bool(slow.values.sum() > 0):
        return chain.aggregate("uniform")
    return chain.aggregate(slow.values)


def _bounced(chain: AttentionChain, begin: Tensor, steps: Sequence[int]) -> dict[int, TokenMap]:
    maps: dict[int, TokenMap] = {}
    values, done = begin, 0
    for n in sorted(steps):
        maps[n] = chain.bounce(values, n - done)
        values, done = maps[n].values, n
    return maps


def _stacked(parts: Sequence[Lambda2]) -> Lambda2:
    widest = max(part.values.shape[-1] for part in parts)

    def stack(rows: Sequence[Tensor], fill: float | bool) -> Tensor:
        return torch.stack([torch.cat([row, row.new_full((widest - len(row),), fill)]) for row in rows])

    told = [part.certificate for part in parts]
    certificate = Certificate(
        stack([c.converged for c in told], True),
        stack([c.residual for c in told], float("nan")),
        None,
        max(c.applies for c in told),
        told[0].method,
        stack([c.uncertain for c in told], False),
    )
    return Lambda2(stack([part.values for part in parts], float("nan")), certificate)


def _token_labels(layout: TokenLayout | None, count: int) -> list[dict[str, Any]]:
    if layout is None:
        return [{"token": i} for i in range(count)]
    labels: list[dict[str, Any]] = []
    for span in layout.spans:
        grid = layout.grids.get(span)
        for place, i in enumerate(layout.range(span)):
            label: dict[str, Any] = {"token": i, "span": span}
            if layout.grids:
                label |= _cell(place, grid)
            if layout.tokens is not None:
                label["text"] = layout.tokens[i]
            labels.append(label)
    return labels


def _cell(place: int, grid: Grid | None) -> dict[str, Any]:
    """Where the token at ``place`` of a picture's span stands; in a video with its frame."""
    if grid is None:
        return {"row": None, "column": None}
    row, column = divmod(place, grid[-1])
    frame, row = divmod(row, grid[-2])
    return {"row": row, "column": column} | ({"frame": frame} if len(grid) == 3 else {})


def _checked_bounces(bounces: Sequence[int]) -> tuple[int, ...]:
    steps = tuple(bounces)
    if not steps or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in steps):
        raise InputError(f"bounces = {bounces!r}, expected whole numbers from 1 on, such as {BOUNCES}")
    return tuple(sorted(set(steps)))


def _check_heads(heads: HeadChoice) -> None:
    known = heads in ("lambda2", "uniform") if isinstance(heads, str) else isinstance(heads, int)
    if not known or isinstance(heads, bool):
        raise InputError(f"heads = {heads!r}, expected 'lambda2', 'uniform' or the number of a head")


def _check_head_number(head: int, chain: AttentionChain, name: str) -> None:
    count = chain.batch[-1]
    if not -count <= head < count:
        raise NotFoundError(
            f"no head {head} in layer {name!r}: it has {count}, expected a number from 0 to {count - 1}"
        )
