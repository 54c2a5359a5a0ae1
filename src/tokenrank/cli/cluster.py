"""``tokenrank cluster``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .labels import FORMATS, Labelling
from .meaning import choice_of, heads_of, layers_of, share_of, tau_of, whole_of
from .options import (
    ANCHORS,
    CLUSTER_WAYS,
    OUT,
    HeadsOption,
    LabelFormatsOption,
    LayersOption,
    ModelOption,
    OutOption,
    OverwriteOption,
    PicturesArgument,
    QuietOption,
    SizeOption,
    completed,
)
from .report import MisuseError, reported

if TYPE_CHECKING:
    from ..models import Model

MOST_SEGMENTS = 255  # labels of an indexed png, beside the background
MOST_ANCHORS = 128  # along a side, as many as patches at most
MOST_ITERATIONS = 100
NOISE = 0.1  # DiffSeg adds none to its latents, which a denoiser of flow matching was never shown


def cluster(
    paths: PicturesArgument,
    model: ModelOption = "bundled",
    how: Annotated[
        str,
        typer.Option(
            metavar="|".join(CLUSTER_WAYS),
            help="merge: maps that say the same (DiffSeg); metastable: what the walk rarely leaves (PCCA+).",
            autocompletion=completed(CLUSTER_WAYS),
        ),
    ] = "merge",
    k: Annotated[
        str | None, typer.Option("-k", "--k", metavar="K", help="Number of segments.", show_default="found out")
    ] = None,
    tau: Annotated[
        str, typer.Option(metavar="TAU", help="merge: distance below which maps are merged, or auto.")
    ] = "auto",
    anchors: Annotated[str, typer.Option(metavar="NUMBER", help="merge: anchors along each side.")] = "16",
    grid: Annotated[
        str,
        typer.Option(
            metavar="GRID",
            help=f"merge: where anchors are: {', '.join(ANCHORS)}.",
            autocompletion=completed(ANCHORS),
        ),
    ] = "uniform",
    iterations: Annotated[str, typer.Option(metavar="NUMBER", help="merge: rounds of merging.")] = "3",
    sort: Annotated[bool, typer.Option("--sort", help="merge: anchors of large TokenRank first.")] = False,
    n: Annotated[str, typer.Option("--n", metavar="N", help="merge: bounces of the maps.")] = "1",
    layer: LayersOption = None,
    heads: HeadsOption = None,
    size: SizeOption = None,
    prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What a pipeline of diffusers is told.", show_default="nothing, as DiffSeg"),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="How much noise the picture gets for a pipeline of diffusers, above 0 and at most 1.",
            show_default=f"{NOISE}",
        ),
    ] = None,
    out: OutOption = OUT,
    formats: LabelFormatsOption = FORMATS,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Divide pictures into segments, without words or training.

    A figure with its legend, the labels as an indexed png, and COCO json. All layers evenly, as DiffSeg joins them:
    --layer '*' --heads uniform. The model may be a pipeline of diffusers: it encodes the picture and denoises it once.
    """
    with reported(quiet):
        options = {
            "how": choice_of(how, "how", CLUSTER_WAYS),
            "k": None if k is None else whole_of(k, "k", 1, MOST_SEGMENTS),
            "tau": tau_of(tau),
            "anchors": whole_of(anchors, "anchors", 1, MOST_ANCHORS),
            "grid": choice_of(grid, "grid", ANCHORS),
            "iterations": whole_of(iterations, "iterations", 1, MOST_ITERATIONS),
            "sort": sort,
            "n": whole_of(n, "n", 1, 10_000),
            "layer": layers_of(layer),
            "heads": heads_of(heads),
        }
        labelling = Labelling("cluster", paths, model, size, out, formats, overwrite)
        share = None if noise is None else share_of(noise, "noise")
        labelling.run(lambda _: options, lambda loaded: denoising(loaded, prompt, share))


def denoising(model: Model, prompt: str | None, noise: float | None) -> dict[str, Any]:
    """What a pipeline is told, and the noise; nothing for other models.

    Raises:
        MisuseError: one of them is given for a model that is no pipeline.
    """
    if model.pipeline is not None:
        return {"prompt": prompt or "", "noise": NOISE if noise is None else noise}
    for option, value in {"--prompt": prompt, "--noise": noise}.items():
        if value is not None:
            raise MisuseError(f"{option} goes with a pipeline of diffusers, and {model.name} is none; leave it out")
    return {}
