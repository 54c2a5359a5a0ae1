"""What ``image``, ``text`` and ``audio`` do: follow attention, draw it, and write the numbers down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .meaning import choice_of, formats_of, heads_of, layer_of, maps_of, maps_up_to, share_of, tokens_of
from .options import SCALES, TABLES
from .output import OutFolder, maker
from .results import FIGURES, check_table_format, chosen, figures_of, result_names, table_files, write_results

if TYPE_CHECKING:
    from ..chain import Start
    from ..observation import Observation
    from .batch import Say
    from .sources import Source


class Follow:
    """The options that the three share; made before any work, so that bad ones stop it first.

    Args:
        layer, heads, tokens, n, alpha, formats, table, scale: as typed.
        figures: names of the figures that are written.

    Raises:
        MisuseError: an option that cannot be used. MissingExtraError: parquet without pyarrow.
    """

    def __init__(
        self,
        layer: str | None,
        heads: str | None,
        tokens: str | None,
        n: str,
        alpha: str,
        formats: str,
        table: str,
        scale: str = "each",
        figures: Sequence[str] = FIGURES,
    ) -> None:
        self.layer, self.heads, self.tokens = layer_of(layer), heads_of(heads), tokens_of(tokens)
        self.n, self.alpha = maps_of(n), share_of(alpha, "alpha")
        self.formats, self.table, self.figures = formats_of(formats), choice_of(table, "table", TABLES), figures
        self.scale: Any = choice_of(scale, "scale", SCALES)
        check_table_format(self.table)

    def folder(self, out: Path, sources: Sequence[Source], overwrite: bool) -> OutFolder:
        """Where the results of ``sources`` go.

        Raises:
            InputError: something is in the way.
        """
        names = {
            name: source.digest
            for source in sources
            if source.digest is not None
            for name in result_names(source.stem, self.formats, self.table, self.figures)
        }
        return OutFolder(out, names, overwrite)

    def __call__(
        self,
        source: Source,
        observation: Observation,
        start: Start | None,
        facts: Mapping[str, Any],
        out: OutFolder,
        say: Say,
    ) -> None:
        """Analyze and write.

        Args:
            source: what was read.
            observation: it, seen by the model.
            start: where the walk begins.
            facts: about the source, for the table.
            out: where the results go.
            say: told what is being done.
        """
        from ..analysis import analyze
        from ..errors import printable

        analysis = analyze(
            observation, layer=self.layer, heads=self.heads, tokens=self.tokens, start=start,
            bounces=self._bounces(observation, start), alpha=self.alpha,
        )  # fmt: skip
        say("drawing")
        assert source.digest is not None, f"{printable(source.path)} was read, and its digest was not"
        tables = table_files(analysis, self.table, {"maker": maker(source.digest), **facts})
        drawn = figures_of(analysis, self.figures, self.scale)
        write_results(drawn, tables, source.stem, out, self.formats, source.digest)
        chosen(source.name, analysis)

    def _bounces(self, observation: Observation, start: Start | None) -> tuple[int, ...]:
        if self.n is not None:
            return self.n
        from ..analysis import default_start

        chain = observation.chain(self.layer, self.heads, self.tokens)
        begin = default_start(observation.modality, chain) if start is None else start
        return maps_up_to(max(1, int(chain.half_life(begin).values)))
