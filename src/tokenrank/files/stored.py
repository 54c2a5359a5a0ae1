"""What a file says of the tokens of one record."""

from __future__ import annotations

from dataclasses import dataclass

from ..layout import TokenLayout
from ..models.windows import Windows


@dataclass(frozen=True)
class Stored:
    """What a file says of the tokens of one record.

    Attributes:
        layout: which token is what, or the text of the error that says why that is unknown; None
            where nothing says it.
        windows: where the windows of a windowed attention stand.
        batch_size: samples in the batch that the model was given, where that is known.
    """

    layout: TokenLayout | str | None = None
    windows: Windows | None = None
    batch_size: int | None = None
