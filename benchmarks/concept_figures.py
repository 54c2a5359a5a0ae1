"""The pictures of docs/concepts/: what a word of the theory looks like on the bundled networks.

python benchmarks/concept_figures.py                        # all of them, into docs/figures/concepts
python benchmarks/concept_figures.py --only bounces,lambda2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.patheffects import withStroke
from panels import GAP, PIXELS, Sheet, log_ticks, mark, over, plain, show, side_of
from PIL import Image

import tokenrank as tr
from tokenrank.view.style import ACCENT, FULL, INK, QUIET, SHADE, SMALL, TITLE, paper_style

OUT = Path(__file__).parent.parent / "docs/figures/concepts"
DPI = 150
WARM, COLD = "#d1495b", "#2e7f8c"
HEAD = 0.34  # inches for a title and a line below it
LAYER = 9  # three quarters up the stack: what obs.chain() takes
PARTS = {"face": (0.44, 0.22), "suit": (0.30, 0.80), "helmet": (0.72, 0.80), "wall": (0.62, 0.10)}
"""Places on the astronaut, in fractions of width and height."""


def astronaut() -> tr.Observation:
    return tr.observe(tr.samples.path("astronaut"))


def chain() -> Figure:
    """A row of the matrix, and the same numbers as arrows."""
    observed = tr.observe("The cat sat on the mat").chain(layer=2)
    words, weights = list(observed.layout.tokens), observed.to_dense().numpy()  # type: ignore[union-attr, arg-type]
    count, row, side = len(words), 1, 2.1
    sheet = Sheet(2.8)
    table = sheet.axes(0.75, 0.55, side, side)
    table.imshow(weights, cmap=SHADE, vmin=0, vmax=0.75)
    for (i, j), value in np.ndenumerate(weights):
        table.text(
            j, i, f"{value:.2f}", ha="center", va="center", fontsize=SMALL, color="white" if value > 0.33 else INK
        )
    table.set_xticks(range(count), words)
    table.set_yticks(range(count), words)
    table.xaxis.tick_top()
    table.tick_params(length=0, pad=2, labelsize=TITLE)
    table.spines[:].set_visible(False)
    table.add_patch(_frame(-0.5, row - 0.5, count, 1))
    table.set_ylabel("from", color=QUIET, fontsize=SMALL, labelpad=2)
    table.set_title("to", color=QUIET, fontsize=SMALL, pad=3)
    graph = sheet.axes(3.45, 0.1, 3.4, 2.7)
    angles = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    places = np.stack([1.25 * np.cos(angles), np.sin(angles)], -1)
    for i in range(count):
        for j in range(count):
            if i != j and weights[i, j] > 0.04:
                _arrow(graph, places[i], places[j], weights[i, j], i == row)
    for i, (x, y) in enumerate(places):
        box = {"boxstyle": "round,pad=0.3", "fc": ACCENT if i == row else "#f4f0f8", "ec": ACCENT, "lw": 0.6}
        ink = "white" if i == row else INK
        graph.text(x, y, words[i], ha="center", va="center", fontsize=TITLE + 1, zorder=5, color=ink, bbox=box)
    stays = f"stays with {weights[row, row]:.2f}"
    graph.annotate(stays, places[row], (0, 15), "data", "offset points", fontsize=SMALL, color=ACCENT)
    graph.set(xlim=(-1.55, 1.95), ylim=(-1.35, 1.35))
    graph.set_axis_off()
    return sheet.figure


def _frame(x: float, y: float, width: float, height: float) -> Any:
    return Rectangle((x, y), width, height, fill=False, ec=ACCENT, lw=1.4, clip_on=False, zorder=4)


def _arrow(axes: Axes, start: np.ndarray, end: np.ndarray, weight: float, strong: bool) -> None:
    style = {
        "arrowstyle": "-|>",
        "mutation_scale": 4 + 6 * weight,
        "shrinkA": 13,
        "shrinkB": 13,
        "connectionstyle": "arc3,rad=0.13",
    }
    colour, order = (ACCENT, 3) if strong else ("#c9c3d0", 2)
    axes.add_patch(
        FancyArrowPatch(start, end, lw=6 * weight, color=colour, zorder=order, alpha=0.95 if strong else 0.55, **style)
    )


def bounces() -> Figure:
    """From one place: where the walk is after n bounces, and how far that is from its limit."""
    observed, (x, y) = astronaut().chain(), PARTS["suit"]
    start, counts = tr.at(x, y), (1, 2, 4, 8)
    limit = observed.tokenrank(alpha=1)
    path = observed.bounce(start, 24, path=True).values
    far = (path - limit.values).abs().sum(-1) / 2
    side = side_of(6)
    sheet = Sheet(HEAD + side + 1.75)
    panels, _ = sheet.row(HEAD, 6)
    show(panels[0], observed.picture.resize((PIXELS, PIXELS)), "start", "one patch")  # type: ignore[union-attr]
    mark(panels[0], x, y, strong=True)
    for axes, n in zip(panels[1:], counts, strict=False):
        show(axes, over(observed.bounce(start, n)), f"n = {n}", "row selection" if n == 1 else f"{n} bounces")
        mark(axes, x, y)
    show(panels[-1], over(limit), "n → ∞", "TokenRank")
    curve = sheet.axes(0.5, HEAD + side + 0.3, FULL - 0.6, 1.05)
    curve.plot(range(25), far, "-", color=ACCENT, lw=1)
    curve.plot([0, *counts], far[[0, *counts]], "o", color=ACCENT, ms=3.5)
    for n in (0, *counts):
        curve.annotate(f"{far[n]:.2f}", (n, far[n]), (5, 3), textcoords="offset points", fontsize=SMALL, color=ACCENT)
    curve.set(xlim=(-0.4, 24.4), ylim=(0, 1.08), yticks=[0, 0.5, 1], xticks=[0, 1, 2, 4, 8, 12, 16, 20, 24])
    curve.set_xlabel("bounces n", fontsize=SMALL, labelpad=1)
    curve.set_ylabel("distance to the limit", fontsize=SMALL, labelpad=3)
    plain(curve)
    sheet.words(
        FULL - 0.05, HEAD + side + 0.22, "total variation: the share of probability that is elsewhere", ha="right"
    )
    return sheet.figure


def tokenrank() -> Figure:
    """What alpha does, beside the column sum."""
    observed = astronaut().chain()
    shares = (0.5, 0.9, 0.99, 1.0)
    column = observed.bounce(torch.ones(observed.num_tokens), 1)
    panels, side = (sheet := Sheet(HEAD + side_of(6) + 0.05)).row(HEAD, 6)
    show(panels[0], observed.picture.resize((PIXELS, PIXELS)), "picture", "as the network sees it")  # type: ignore[union-attr]
    show(panels[1], over(column), "column sum", "one bounce from all")
    for axes, alpha in zip(panels[2:], shares, strict=True):
        show(axes, over(observed.tokenrank(alpha=alpha)), f"α = {alpha:g}", "TokenRank" if alpha < 1 else "no teleport")
    del side
    return sheet.figure


def lambda2() -> Figure:
    """A slow head and a fast one of one layer: what is left of the start."""
    observation, (x, y) = astronaut(), PARTS["suit"]
    heads, values = observation.head_chains(LAYER), observation.lambda2(LAYER).values
    order = values.argsort(descending=True).tolist()
    chosen, counts = (order[0], order[-1]), (1, 2, 4, 8)
    left, right = 0.62, 2.15
    side = side_of(4, left, right)
    sheet = Sheet(HEAD + 2 * side + GAP + 0.08)
    far = sheet.axes(FULL - right + 0.55, HEAD + 0.03, right - 0.68, 2 * side + GAP - 0.32)
    for row, head_number in enumerate(chosen):
        head_chain, colour = heads[head_number], (ACCENT, WARM)[row]
        panels, _ = sheet.row(HEAD + row * (side + GAP), 4, left, right)
        for axes, n in zip(panels, counts, strict=True):
            show(axes, over(head_chain.bounce(tr.at(x, y), n)), f"n = {n}" if row == 0 else "")
            mark(axes, x, y)
        middle = HEAD + row * (side + GAP) + side / 2
        sheet.words(left - 0.08, middle - 0.12, f"head {head_number}", ha="right", color=colour, fontsize=TITLE)
        sheet.words(left - 0.08, middle + 0.02, f"|λ2| {float(values[head_number]):.2f}", ha="right")
        path = head_chain.bounce(tr.at(x, y), 16, path=True).values.double()
        distance = (path - head_chain.tokenrank(alpha=1).values).abs().sum(-1) / 2
        far.semilogy(range(17), distance, color=colour, lw=1.2)
        rate = distance[2] * values[head_number] ** (torch.arange(2, 17) - 2)
        far.semilogy(range(2, 17), rate, ":", color=colour, lw=0.8)
    far.set(xlim=(0, 16), ylim=(1e-4, 1.5), xticks=[0, 4, 8, 12, 16])
    far.minorticks_off()
    log_ticks(far.yaxis, (-4, -3, -2, -1, 0))
    far.set_xlabel("bounces n", fontsize=SMALL, labelpad=1)
    far.set_ylabel("distance to the limit", fontsize=SMALL, labelpad=2)
    far.annotate("dotted: |λ2|ⁿ", (0.97, 0.9), xycoords="axes fraction", ha="right", fontsize=SMALL, color=QUIET)
    plain(far)
    return sheet.figure


def directions() -> Figure:
    """Forward: where the place looks. Backward: who looks at it."""
    observed, (x, y) = astronaut().chain(), PARTS["face"]
    start = tr.at(x, y)
    left = 0.72
    side = side_of(4, left)
    sheet = Sheet(HEAD + 2 * side + GAP + 0.05)
    for row, (name, words) in enumerate((("forward", "where it looks"), ("backward", "who looks"))):
        panels, _ = sheet.row(HEAD + row * (side + GAP), 4, left)
        titles = "n = 1", "n = 2", "n = 4", "n → ∞: TokenRank"
        for axes, n, title in zip(panels, (1, 2, 4, 0), titles, strict=True):
            heat = observed.bounce(start, n, direction=name) if n else observed.tokenrank(direction=name)  # type: ignore[arg-type]
            show(axes, over(heat), title if row == 0 else "")
            if n:
                mark(axes, x, y, strong=True)
        middle = HEAD + row * (side + GAP) + side / 2
        sheet.words(left - 0.08, middle - 0.13, name, ha="right", color=INK, fontsize=TITLE)
        sheet.words(left - 0.08, middle + 0.02, words, ha="right")
    return sheet.figure


def two_rooms(coupling: float, tokens: int = 240, seed: int = 0) -> torch.Tensor:
    """Weights (N, N) of two groups; what a bounce crosses over is about ``coupling``, three times as much one way."""
    drawn = torch.Generator().manual_seed(seed)
    weights, half = torch.rand(tokens, tokens, dtype=torch.float64, generator=drawn), tokens // 2
    weights[:half, half:] *= coupling
    weights[half:, :half] *= 3 * coupling
    return weights / weights.sum(-1, keepdim=True)


def certificates() -> Figure:
    """A residual that is small whatever the error: two groups that hardly attend to each other."""
    couplings = 10.0 ** -np.arange(1, 13)
    residuals, errors, bounds = [], [], []
    for coupling in couplings:
        weights = two_rooms(float(coupling))
        answer = tr.AttentionChain(weights).tokenrank(alpha=1)
        walk = torch.full((len(weights),), 1 / len(weights), dtype=torch.float64)
        for _ in range(200):
            walk = walk @ weights
        residuals.append(max(float((walk @ weights - walk).abs().sum()), 1e-16))
        errors.append(float((walk - answer.values).abs().sum()))
        bounds.append(float(answer.certificate.error_bound))  # type: ignore[union-attr, arg-type]
    sheet = Sheet(2.25)
    axes = sheet.axes(0.55, 0.15, 4.2, 1.72)
    for values, colour, words in (
        (errors, WARM, "error after 200 bounces"),
        (residuals, COLD, "residual after 200 bounces"),
        (bounds, ACCENT, "proved bound of tokenrank(alpha=1)"),
    ):
        axes.loglog(couplings, values, "o-", color=colour, lw=1, ms=2.5)
        place = couplings[-1], values[-1]
        axes.annotate(words, place, (8, -2), "data", "offset points", fontsize=SMALL + 0.5, color=colour)
    axes.invert_xaxis()
    axes.set(ylim=(3e-17, 30))
    axes.minorticks_off()
    log_ticks(axes.yaxis, (-16, -12, -8, -4, 0))
    log_ticks(axes.xaxis, (-1, -4, -8, -12))
    axes.set_xlabel("share of a bounce that crosses from one group to the other", fontsize=SMALL, labelpad=2)
    axes.set_ylabel("ℓ1", fontsize=SMALL, labelpad=2)
    plain(axes)
    return sheet.figure


def arrival() -> Figure:
    """From TokenRank to the extent of an object."""
    observation, (x, y) = astronaut(), PARTS["suit"]
    observed, features = observation.chain(heads="uniform"), observation.features_chain()
    forward, backward = observed.tokenrank(), observed.tokenrank(direction="backward")
    found = tr.tasks.saliency(observation)
    panels, _ = (sheet := Sheet(HEAD + side_of(6) + 0.05)).row(HEAD, 6)
    show(panels[0], over(forward), "arrives", "TokenRank π")
    show(panels[1], over(backward), "comes from", "backward π′")
    show(panels[2], over(tr.tasks.arrival(observation, n=0)), "place", "π / π′")
    show(panels[3], over(features.bounce(tr.at(x, y), 1)), "looks alike", "a row of C")
    mark(panels[3], x, y)
    show(panels[4], over(tr.tasks.arrival(observation)), "extent", "C² π / π′")
    picture = np.asarray(observation.picture.resize((PIXELS, PIXELS)), dtype=float) / 255  # type: ignore[union-attr]
    mask = _resized(found.labels == 1)
    show(panels[5], np.where(mask[..., None], picture, 0.25 * picture + 0.7), "object", "above the mean")
    return sheet.figure


def _resized(mask: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((PIXELS, PIXELS))) > 127


def absorption() -> Figure:
    """A soft segmentation: in which of four words does the walk end?"""
    observation = astronaut()
    image, (rows, columns) = observation.chain(layer=-1), observation.grid
    names, places = list(PARTS), [tr.at(*place) for place in PARTS.values()]
    colours = np.array([to_rgb(colour) for colour in ("#f0a202", "#d1495b", "#2e7f8c", "#cfc8de")])
    features = torch.nn.functional.normalize(observation.features(-1, "h").double(), dim=-1)
    tokens = [_patch(place, rows, columns) for place in places]
    cross = (features @ features[tokens].T / 0.05).softmax(-1)  # stands in for a denoiser's cross-attention
    side = side_of(5)
    sheet = Sheet(HEAD + side + 0.05)
    panels, _ = sheet.row(HEAD, 5)
    show(panels[0], observation.picture.resize((PIXELS, PIXELS)), "four “words”", "patches that stand for them")  # type: ignore[union-attr]
    for name, (x, y), colour in zip(names, PARTS.values(), colours, strict=True):
        panels[0].plot([x], [y], "o", ms=4.5, mfc=colour, mec="white", mew=0.8)
        panels[0].annotate(name, (x, y), (4, -2), textcoords="offset points", fontsize=SMALL, color="white",
                           path_effects=[withStroke(linewidth=1.4, foreground=INK)])  # fmt: skip
    for axes, step in zip(panels[1:], (1.0, 0.5, 0.2, 0.05), strict=True):
        ends = tr.bipartite(image, cross, step=step, text=names).absorption("text").values[: image.num_tokens].numpy()
        mixed = (ends @ colours).reshape(rows, columns, 3)
        below = "cross-attention itself" if step == 1 else f"after {1 / step:.0f} bounces on average"
        show(axes, _large(mixed), f"p = {step:g}", below)
    return sheet.figure


def _patch(place: Any, rows: int, columns: int) -> int:
    return int(place.y * rows) * columns + int(place.x * columns)


def _large(grid: np.ndarray) -> np.ndarray:
    return np.asarray(_picture(grid).resize((PIXELS, PIXELS), Image.Resampling.BICUBIC))


def _picture(rgb: np.ndarray) -> Image.Image:
    return Image.fromarray((rgb.clip(0, 1) * 255).round().astype(np.uint8))


FIGURES: dict[str, Callable[[], Figure]] = {
    draw.__name__: draw for draw in (chain, bounces, tokenrank, lambda2, directions, certificates, arrival, absorption)
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(FIGURES), help=f"some of {','.join(FIGURES)}")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the pictures")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only.split(","):
        with paper_style():
            FIGURES[name]().savefig(given.out / f"{name}.png", dpi=DPI)
        print(given.out / f"{name}.png")


if __name__ == "__main__":
    main()
