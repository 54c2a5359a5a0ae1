"""``tokenrank image``, and what it shares with ``tokenrank text`` and ``tokenrank audio``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import (
    FIGURES,
    AlphaOption,
    BouncesOption,
    FormatsOption,
    HeadsOption,
    LayerOption,
    ModelOption,
    OutOption,
    PictureArgument,
    SizeOption,
    TableFormat,
    TableOption,
    TokensOption,
    bounces_of,
    formats_of,
    heads_of,
    layer_of,
    point_of,
    tokens_of,
)
from .report import one_line, progress, reported

if TYPE_CHECKING:
    from ..chain import Start
    from ..observation import Observation


def image(
    path: PictureArgument,
    model: ModelOption = "bundled",
    layer: LayerOption = None,
    heads: HeadsOption = "lambda2",
    tokens: TokensOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y",
            help="Where the walk starts: a pixel of the upright picture as two whole numbers (320,180), or fractions "
            "of width and height with a decimal point (0.5,0.4).",
            show_default="the centre",
        ),
    ] = None,
    bounces: BouncesOption = 8,
    alpha: AlphaOption = 0.99,
    size: SizeOption = None,
    out: OutOption = Path("tokenrank-out"),
    formats: FormatsOption = "png,pdf",
    table: TableOption = TableFormat.json,
) -> None:
    """Follow attention through a picture: figures bounces and lambda2, and a table."""
    with reported():
        follow = Follow(layer, heads, tokens, bounces, alpha, out, formats, table)
        from ..models import read_image

        picture = read_image(path)
        begin = None if start is None else point_of(start, *picture.size)

        def observed() -> Observation:
            from ..reading import observe

            return observe(picture, model, kind="image", size=size)

        facts = {"picture": one_line(path), "pixels": list(picture.size), "size": size}
        follow(Path(path).name, observed, lambda _: begin, facts)


class Follow:
    """What ``image``, ``text`` and ``audio`` do; made before any work, so that bad options stop it first.

    Args:
        layer, heads, tokens, bounces, alpha, out, formats, table: as typed.
        figures: names of the figures that are written.

    Raises:
        InputError: an option that cannot be used. MissingExtraError: parquet without pyarrow.
    """

    def __init__(
        self,
        layer: str | None,
        heads: str,
        tokens: str | None,
        bounces: int,
        alpha: float,
        out: Path,
        formats: str,
        table: TableFormat,
        figures: Sequence[str] = FIGURES,
    ) -> None:
        from .output import OutFolder, check_table_format, result_names

        self.figures = figures

        self.choice: dict[str, Any] = {"layer": layer_of(layer), "heads": heads_of(heads), "tokens": tokens_of(tokens)}
        self.choice |= {"bounces": bounces_of(bounces), "alpha": alpha}
        self.formats, self.table = formats_of(formats), table
        check_table_format(table)
        self.folder = OutFolder(out, result_names(self.formats, table, figures=figures))

    def __call__(
        self,
        name: str,
        observed: Callable[[], Observation],
        start: Callable[[Observation], Start | None],
        facts: dict[str, Any],
    ) -> None:
        """Analyze and write.

        Args:
            name: of the picture or text, for stderr.
            observed: makes the observation; may have to load a model.
            start: where the walk begins in it.
            facts: about the source, for the table.
        """
        from .output import write_results

        with progress(1) as report:
            report(name, "loading the model")
            from ..analysis import analyze

            observation = observed()
            begin = start(observation)
            analysis = analyze(observation, start=begin, progress=lambda stage: report(name, stage), **self.choice)
            report(name, "drawing")
            write_results(analysis, one_line(name), self.folder, self.formats, self.table, facts)
