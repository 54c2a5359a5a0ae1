"""Work of ``tr.map``: a function of one source, or of what a model attended to in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import InputError, MissingExtraError, first_line
from ..evaluate.runner import image_seed, seeded
from ..evaluate.runner.work import cells
from ..memory import is_out_of_memory
from ..models import Model
from ..plain import utf8
from ..reading import observe
from ..workers import Done, Row
from ..workers.device import model_on
from .sources import Named

VALUE = "value"
"""Column of a function that returns no mapping."""


@dataclass(frozen=True)
class Apply:
    """Sources → rows.

    Attributes:
        function: of an observation; of the source itself where ``model`` is None.
        reading: what ``observe`` takes beside source and model.
        seed: of all random numbers, together with the key of a source.
        stored: rows are plain values, as a table holds them; otherwise whatever the function returns.
    """

    function: Callable[[Any], Any]
    model: Model | None
    seed: int = 0
    stored: bool = True
    reading: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, items: Sequence[Named]) -> Done:
        """See ``tokenrank.workers.Work``.

        Raises:
            MissingExtraError: a library is missing, which no other source would change.
        """
        rows: list[Row] = []
        failures: dict[str, str] = {}
        for item in items:
            key = self.key(item)
            try:
                with seeded(image_seed(self.seed, item.key)):
                    rows.append({"key": key, **self._row(item.source)})
            except MissingExtraError:
                raise
            except Exception as error:  # one source must not cost the others
                if is_out_of_memory(error):
                    raise
                failures[key] = utf8(f"{type(error).__name__}: {first_line(error)}")
        return Done(tuple(map(self.key, items)), tuple(rows), failures)

    def key(self, item: Named) -> str:
        """A key as rows have it."""
        return utf8(item.key)

    def on(self, device: str) -> Apply:
        """The same work with the model on a device."""
        return self if self.model is None else replace(self, model=model_on(self.model, device))

    def _row(self, source: Any) -> Row:
        given = source if self.model is None else observe(source, model=self.model, **self.reading)
        value = self.function(given)
        if not self.stored:
            return {VALUE: value}
        row = value if isinstance(value, Mapping) else {VALUE: value}
        if "key" in row:
            raise InputError("the function returned a column 'key', which names the source; give it another name")
        return cells(row)
