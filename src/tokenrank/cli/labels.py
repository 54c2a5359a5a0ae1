"""The files that a command makes of a segmentation."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from .files import MAKER, OutFolder

if TYPE_CHECKING:
    import PIL.Image

    from ..tasks.masks import Segmentation


def label_names(prefix: str) -> list[str]:
    """Names of the files of one segmentation: the overlay, the labels as an indexed png, COCO."""
    return [f"{prefix}.png", f"{prefix}-labels.png", f"{prefix}.json"]


def write_labels(found: Segmentation, picture: PIL.Image.Image, file_name: str, out: OutFolder, prefix: str) -> None:
    """Write them and print the paths, one a line.

    Raises:
        InputError: more labels than an indexed png has; what fits is written before.
    """
    from ..tasks.masks import png_bytes

    overlay, labels, coco = label_names(prefix)
    makers = {
        overlay: lambda: png_bytes(found.overlay(picture), MAKER),
        coco: lambda: found.encoded(".json", file_name, MAKER),
        labels: lambda: found.encoded(".png", maker=MAKER),
    }
    for name, make in makers.items():
        typer.echo(os.fsencode(out.write(name, make())))  # bytes, since a path need not be UTF-8
