"""Eigenvalues in the unit circle, as a small drawing for a notebook."""

from __future__ import annotations

import torch
from torch import Tensor

from ..html import TINT, drawing

SIDE, RADIUS = 190, 84  # CSS pixels of the drawing and of the circle
QUIET = "#888888"  # seen on a light page and on a dark one
MOST = 400  # eigenvalues that are drawn


def unit_circle(values: Tensor) -> str:
    """Complex eigenvalues, of any shape, in the unit circle; what is no number is left out."""
    known = values[torch.isfinite(values.abs())].reshape(-1)[:MOST]
    middle = SIDE / 2
    lines = "".join(
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{QUIET}" stroke-width=".5" opacity=".6"/>'
        for x1, y1, x2, y2 in ((5, middle, SIDE - 5, middle), (middle, 5, middle, SIDE - 5))
    )
    rings = "".join(
        f'<circle cx="{middle:g}" cy="{middle:g}" r="{RADIUS * share:g}" fill="none" stroke="{QUIET}" '
        f'stroke-width="{width}" opacity="{opacity}"/>'
        for share, width, opacity in ((1, 1, 1), (0.5, 0.5, 0.5))
    )
    dots = "".join(
        f'<circle cx="{middle + RADIUS * z.real:.2f}" cy="{middle - RADIUS * z.imag:.2f}" r="3.2" fill="{TINT}" '
        'fill-opacity=".75"/>'
        for z in known.tolist()
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" height="{SIDE}">'
        f"{lines}{rings}{dots}</svg>"
    )
    return drawing(svg, "eigenvalues in the unit circle", SIDE)
