"""Result: what all answers of a chain have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import ChainError
from ..html import note, panel
from .certificate import Batched, Certificate
from .tables import answer_table
from .words import counted, range_words

if TYPE_CHECKING:
    from typing_extensions import Self


class Result(Batched):
    """Base of the answers: frozen data classes of tensors whose first dimensions are those of the chain.

    ``answer[1, 2]`` is the answer of one chain of the batch; ``repr`` says what it is, for how many chains, from where
    to where the values go, and what they are worth; a notebook shows the same and all other numbers as a table.

    Attributes:
        values: the answer itself, (*batch, …).
        certificate: what it is worth.
    """

    values: Tensor
    certificate: Certificate | None

    AXES: ClassVar[tuple[str, ...]] = ()
    """What the dimensions of ``values`` after the leading ones are, such as ("token", "target")."""
    OVER_TOKENS: ClassVar[tuple[tuple[str, int], ...]] = ()
    """Which fields have a number for every token, and which of their dimensions, from the end, that is."""
    ONE: ClassVar[str] = "chain"
    LABELS: ClassVar[tuple[tuple[str, str], ...]] = ()
    """What fields are called where their names do not say it."""

    @property
    def batch(self) -> torch.Size:
        """The leading dimensions, heads last."""
        return self.values.shape[: self.values.ndim - len(self.AXES)]

    def __getitem__(self, index: Any) -> Self:
        """Index the leading dimensions (batch, heads).

        Raises:
            ChainError: an index out of range, with too many entries, or that selects nothing.
        """
        entries = leading_index(index, self.batch, "single entries are in .values")
        return super().__getitem__(entries)

    def __repr__(self) -> str:
        words = f"{self.shape_words()}, {self.answer_words()}"
        return f"{type(self).__name__}({'; '.join(filter(None, [words, self.worth_words(), self.caption_words()]))})"

    def _repr_html_(self) -> str:
        return panel(
            f"{type(self).__name__} of {self.shape_words()}",
            self.table_html(),
            note(self.caption_words()),
            note(self.worth_words()),
        )

    def table_html(self) -> str:
        """The numbers as a table; those that are many, from where to where they go."""
        fields = {name: value for name, value in self.batched_fields().items() if isinstance(value, Tensor)}
        return answer_table(fields, self.batch, dict(self.LABELS))

    def answer_words(self) -> str:
        """The answer in short."""
        return range_words(self.values)

    def shape_words(self) -> str:
        """What the dimensions of ``values`` are: "2 × 12 chains, 197 tokens × 5 targets" for instance."""
        rest = self.values.shape[len(self.batch) :]
        count = " × ".join(map(str, self.batch)) or "1"
        each = " × ".join(counted(str(n), name) for n, name in zip(rest, self.AXES, strict=True))
        return ", ".join(filter(None, [counted(count, self.ONE), each]))

    def worth_words(self) -> str:
        """What the answer is worth; nothing where there is no certificate."""
        return "" if self.certificate is None else str(self.certificate)

    def caption_words(self) -> str:
        """What was asked of which chain, where the answer knows it."""
        return str(vars(self).get("caption", ""))


def leading_index(index: Any, batch: torch.Size, tokens: str) -> tuple[Any, ...]:
    """``index`` as a tuple without an ellipsis, that selects something from dimensions ``batch``.

    Args:
        index: whatever a tensor of shape ``batch`` can be indexed with.
        batch: the leading dimensions.
        tokens: what to do instead to select tokens, for the error message.

    Raises:
        ChainError: out of range, too many entries, or nothing selected.
    """
    entries = list(index) if isinstance(index, tuple) else [index]
    entries = [torch.from_numpy(e) if isinstance(e, np.ndarray) else e for e in entries]
    try:
        on_cpu = tuple(e.cpu() if isinstance(e, Tensor) else e for e in entries)
        selected = torch.empty(batch, dtype=torch.bool)[on_cpu]
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        raise ChainError(
            f"index {index!r} does not fit the leading dimensions {tuple(batch)}: {error}; {tokens}"
        ) from None
    if not selected.numel():
        raise ChainError(f"index {index!r} selects nothing from the leading dimensions {tuple(batch)}")
    at = next((i for i, entry in enumerate(entries) if entry is Ellipsis), None)
    if at is not None:
        used = sum(_consumed(entry) for entry in entries)
        entries[at : at + 1] = [slice(None)] * (len(batch) - used)
    return tuple(entries)


def _consumed(entry: Any) -> int:
    if entry is None or entry is Ellipsis:
        return 0
    return entry.ndim if isinstance(entry, Tensor) and entry.dtype == torch.bool else 1
