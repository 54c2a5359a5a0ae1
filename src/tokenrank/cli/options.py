"""Options of the commands, each typed once: the same name means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..grammar import HEADS_HELP, LAYER_HELP, TOKENS_HELP
from ..workers.names import ENGINES

OUT = Path("tokenrank-out")
BOUNCES, ALPHA = "8", "0.99"
BATCH, SEED, RESAMPLES = "8", "0", "1000"
"""Defaults that several commands share."""
FORMATS = ("png", "pdf", "svg")
LABEL_FORMATS = ("figure", "overlay", "mask", "coco")
TABLES = ("json", "parquet")
SCALES = ("each", "shared")
CLUSTER_WAYS = ("merge", "metastable")
ANCHORS = (
    "uniform",
    "tokenrank",
    "tokenrank-top",
    "tokenrank-nms",
    "tokenrank-sample",
    "tokenrank-cells",
    "metastable",
)
SALIENCY_WAYS = ("arrival", "border", "slow", "metastable", "tokenrank")
SIDES = ("tokenrank", "border", "seed")


def completed(words: Sequence[str], several: bool = False) -> Callable[[str], list[str]]:
    """Completion of one of ``words``, or of ``several`` with commas between them."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        given = before.split(",")
        return [f"{before}{comma}{word}" for word in words if word.startswith(last) and word not in given]

    return complete


PicturesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="PATHS...",
        help="Pictures, and folders of pictures (the files in them, not those in folders below). Of an animation the "
        "first frame is read. One that fails is listed and the rest done; the exit code is then 3.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="bundled, a folder, OWNER/NAME on the Hugging Face hub (downloaded once), timm:NAME "
        "(pip install 'tokenrank[timm]'), or diffusers:OWNER/NAME (pip install 'tokenrank[diffusers]').",
        autocompletion=completed(("bundled", "timm:", "diffusers:")),
    ),
]
OtherVersionsOption = Annotated[
    bool,
    typer.Option(
        "--other-versions",
        help="Go on with other versions of the libraries than the run was started with; its record then lists both.",
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(metavar="PIXELS", help="Long side that the model gets.", show_default="the model's own"),
]
LayerOption = Annotated[
    str | None, typer.Option(metavar="LAYER", help=f"Which layer: {LAYER_HELP}.", show_default=False)
]
LayersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layer", metavar="LAYER", help=f"Which layer: {LAYER_HELP}. Several times for several.", show_default=False
    ),
]
HeadsOption = Annotated[
    str | None,
    typer.Option(
        metavar="HEADS",
        help=f"Which heads: {HEADS_HELP}.",
        show_default=False,
        autocompletion=completed(("lambda2", "uniform")),
    ),
]
TokensOption = Annotated[
    str | None,
    typer.Option(
        metavar="TOKENS",
        help=f"Which tokens: {TOKENS_HELP}.",
        show_default=False,
        autocompletion=completed(("all", "image", "text", "content", "cls")),
    ),
]
BouncesOption = Annotated[
    str,
    typer.Option(
        "--n",
        metavar="N|N,N,…",
        help="Bounces: one number shows up to four maps from 1 to it, a list such as 1,2,8 exactly these, halflife "
        "those up to where half of the start is forgotten.",
    ),
]
AlphaOption = Annotated[str, typer.Option(metavar="A", help="Probability of following attention in TokenRank, 0 to 1.")]
PageAlphaOption = Annotated[
    str, typer.Option("--alpha", metavar="A", help="Probability of following attention at a bounce, 0.5 to 0.999.")
]
ScaleOption = Annotated[
    str,
    typer.Option(
        metavar="each|shared",
        help="each: every map on a scale of its own; shared: one for all, so that they can be compared.",
        autocompletion=completed(SCALES),
    ),
]
RuleOption = Annotated[
    str,
    typer.Option(
        metavar="RULE",
        help="mean: what is above the mean; a share of the map's mass, such as 0.6; all.",
        autocompletion=completed(("mean", "all")),
    ),
]
ComponentOption = Annotated[
    bool,
    typer.Option("--component", help="Keep one connected part (pip install 'tokenrank[evaluate]', or scipy)."),
]
RefineOption = Annotated[
    bool, typer.Option("--refine", help="Follow the picture's edges (pip install 'tokenrank[refine]').")
]
BatchOption = Annotated[str, typer.Option(metavar="NUMBER", help="Images between two writes to the disk.")]
SeedOption = Annotated[str, typer.Option(metavar="NUMBER", help="Of all random numbers.")]
SeedsOption = Annotated[
    str, typer.Option(metavar="SEEDS", help="Of the noise: a number, a list such as 1,5, or a range such as 0-7.")
]
ResamplesOption = Annotated[
    str, typer.Option(metavar="NUMBER", help="Bootstrap resamples of the images for the intervals.")
]
SourcesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCES...",
        help="Pictures, folders of pictures, traces (.safetensors), and texts in quotes: what has a space in it, does "
        "not end like a picture, and is no file is a text. Several become sheets of one page.",
        show_default=False,
    ),
]
PageLayersOption = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="LAYERS",
        help="Layers that can be walked in, with + between them (8+11): numbers, names or globs; of the others the "
        "page has thumbnails.",
        show_default="as many as fit, the last among them",
    ),
]
PageHeadsOption = Annotated[
    str | None,
    typer.Option(
        "--heads",
        metavar="HEADS",
        help="Numbers of heads of these layers, such as 0+3, or all.",
        show_default="all",
    ),
]
SmallOption = Annotated[
    bool, typer.Option("--small", help="Store a byte a number in place of two; what it costs is measured and told.")
]
BehindOption = Annotated[
    Path | None,
    typer.Option("--picture", metavar="FILE", help="Of traces: the picture behind them, such as what a denoiser made."),
]
PageStepsOption = Annotated[
    str | None,
    typer.Option(
        "--steps",
        metavar="STEPS",
        help="Of a denoiser's trace: its forward calls, with + between them (0+14+27), negative from the last.",
        show_default="as many as fit, evenly spaced",
    ),
]
LimitOption = Annotated[str, typer.Option("--limit", metavar="MB", help="Most that the page may take.")]
PageOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="The page, or with the ending .trx its data for a site of your own. One of the same source is replaced, "
        "and this is told; no other file is.",
        show_default="tokenrank-out/NAME-explorer.html",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        metavar="local|ray",
        help="Who works: this process, or the workers of a Ray cluster (pip install 'tokenrank[distributed]'). The "
        "report is the same.",
        autocompletion=completed(ENGINES),
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT",
        help="Of the Ray cluster; auto on one of its nodes.",
        show_default="one on this machine, for as long as the command runs",
    ),
]
WorkersOption = Annotated[
    str | None,
    typer.Option(metavar="NUMBER", help="Workers of the cluster, each with the model.", show_default="all that fit"),
]
CpusOption = Annotated[
    str | None, typer.Option(metavar="NUMBER", help="Processors and threads of a worker.", show_default="1")
]
GpusOption = Annotated[
    str | None,
    typer.Option(metavar="NUMBER", help="GPUs of a worker, or the share of one, such as 0.25.", show_default="0"),
]
RuntimeEnvOption = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help='What Ray sets up for the workers, such as \'{"pip": ["tokenrank[evaluate,distributed]"]}\'.',
        show_default=False,
    ),
]
OutOption = Annotated[
    Path,
    typer.Option(
        metavar="DIR", help="Folder for the results, which are named after the source. Those of the same source are "
        "replaced, and this is told; no other file is."
    ),
]  # fmt: skip
FormatsOption = Annotated[
    str,
    typer.Option(
        metavar="FORMATS", help="Of the figures: some of png,pdf,svg.", autocompletion=completed(FORMATS, several=True)
    ),
]
LabelFormatsOption = Annotated[
    str,
    typer.Option(
        metavar="FORMATS",
        help="Some of figure (with legend and caption), overlay (labels over the picture, pixel by pixel), mask "
        "(labels as an indexed png), coco (json).",
        autocompletion=completed(LABEL_FORMATS, several=True),
    ),
]
TableOption = Annotated[
    str,
    typer.Option(
        metavar="json|parquet",
        help="Format of the numbers; parquet: pip install 'tokenrank[evaluate]', or pyarrow.",
        autocompletion=completed(TABLES),
    ),
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace results of other sources, too; never what tokenrank did not make."),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors and warnings, for scripts.")
]
