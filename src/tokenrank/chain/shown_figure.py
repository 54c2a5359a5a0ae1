"""A matplotlib figure that a notebook shows, whether pyplot was imported or not."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

DENSITY = 180  # pixels an inch
CSS = 100  # of the page's pixels an inch
HEAVY = 250_000  # bytes of a PNG from which on a JPEG is shown


class ShownFigure(Figure):
    """matplotlib's own figures are shown only once pyplot has set a notebook up, as a line of text before."""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, bytes], dict[str, dict[str, int]]]:
        width, height = (round(CSS * float(inches)) for inches in self.get_size_inches())
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=DENSITY)
        kind, data = "image/png", buffer.getvalue()
        if len(data) > HEAVY:  # photographs, of which a notebook holds many
            drawn = Image.open(buffer).convert("RGB")
            buffer = io.BytesIO()
            drawn.save(buffer, "JPEG", quality=85, optimize=True)
            kind, data = "image/jpeg", buffer.getvalue()
        return {kind: data}, {kind: {"width": width, "height": height}}
