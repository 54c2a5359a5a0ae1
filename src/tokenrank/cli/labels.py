"""What ``segment``, ``cluster`` and ``saliency`` share: pictures in, an overlay, labels and COCO json out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..endings import PICTURES
from ..errors import MissingExtraError
from .batch import Say, each, model_of
from .meaning import formats_of, size_of
from .options import LABEL_FORMATS
from .output import OutFolder, maker
from .pictures import check_spots, picture_of
from .places import Spot
from .report import note, one_line, print_path
from .sources import Source, sources_of

if TYPE_CHECKING:
    import PIL.Image

    from ..models import Model
    from ..tasks.segmentation import Segmentation

FORMATS = "figure,mask,coco"
"""The default: one to look at, one to compute with, one to hand on."""


def label_names(stem: str, command: str, formats: Sequence[str]) -> dict[str, str]:
    """Format → name of its file."""
    return {form: f"{stem}-{command}-{form}.{'json' if form == 'coco' else 'png'}" for form in formats}


class Labelling:
    """Pictures whose pixels get labels; made before any work, so that what is wrong stops it first.

    Args:
        command: "segment", "cluster" or "saliency".
        paths, model, size, out, formats: as typed.
        overwrite: replace results of other sources.
        spots, boxes: places that every picture must have.
        more: ends of the names of further files, after the command.

    Raises:
        MisuseError, InputError: something cannot be used, or is in the way.
    """

    def __init__(
        self,
        command: str,
        paths: Sequence[str],
        model: str,
        size: str | None,
        out: Path,
        formats: str,
        overwrite: bool,
        spots: Sequence[Spot | str] = (),
        boxes: Sequence[tuple[float, float, float, float]] = (),
        more: Sequence[str] = (),
    ) -> None:
        self.command, self.formats = command, formats_of(formats, LABEL_FORMATS, "format")
        self.size = size_of(size)
        self.sources = sources_of(paths, "picture", PICTURES)
        known = ((source, source.digest) for source in self.sources if source.digest is not None)
        names = {
            name: digest
            for source, digest in known
            for name in (
                *label_names(source.stem, command, self.formats).values(),
                *(f"{source.stem}-{command}-{end}" for end in more),
            )
        }
        self.out = OutFolder(out, names, overwrite)
        check_spots(self.sources, spots, boxes)
        self._model = model_of(model, "image")

    def run(
        self, given: Callable[[PIL.Image.Image], dict[str, Any]], told: Callable[[Model], dict[str, Any]] | None = None
    ) -> None:
        """Label every picture by the task of the command's name, and write.

        Args:
            given: a picture → the arguments of the task.
            told: the model → further arguments, such as a denoiser's prompt; none where None.
        """

        def work(source: Source, say: Say) -> None:
            say("reading")
            picture = picture_of(source)
            own = {**given(picture)}
            say("loading the model")
            model = self._model()
            own |= told(model) if told else {}
            say("running the model")
            task = getattr(import_module("tokenrank.tasks"), self.command)
            found = task(picture, **own, model=model, size=self.size)
            say("writing")
            self._write(found, source)

        each(self.sources, "picture", self.out, work)

    def _write(self, found: Segmentation, source: Source) -> None:
        from ..tasks.segmentation import png_bytes

        assert source.digest is not None
        by, name = maker(source.digest), one_line(source.name)
        make: dict[str, Callable[[], bytes]] = {
            "figure": lambda: _figure(found, by),
            "overlay": lambda: png_bytes(found.overlay(), by),
            "mask": lambda: found.encoded(".png", maker=by),
            "coco": lambda: found.encoded(".json", name, by),
        }
        for form, file in label_names(source.stem, self.command, self.formats).items():
            print_path(self.out.write(file, make[form]()))
        note(f"{name}: {found.caption}; {found.strength_words()}")


def _figure(found: Segmentation, by: str) -> bytes:
    from ..view import labels_figure, render

    return render(labels_figure(found), "png", by)


def check_extras(refine: bool, component: bool) -> None:
    """Raise ``MissingExtraError`` for what an option needs and is not installed."""
    if refine and find_spec("kornia") is None:
        raise MissingExtraError("--refine needs kornia, which is not installed: pip install 'tokenrank[refine]'")
    if component and find_spec("scipy") is None:
        raise MissingExtraError(
            "--component needs scipy, which is not installed: pip install 'tokenrank[evaluate]' (or scipy alone)"
        )
