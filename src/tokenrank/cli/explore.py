"""``tokenrank explore``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..endings import PICTURES
from ..errors import InputError, printable
from .batch import Say, each
from .meaning import layer_of, share_of, size_of, whole_of
from .options import (
    ALPHA,
    OUT,
    BehindOption,
    LimitOption,
    ModelOption,
    OverwriteOption,
    PageAlphaOption,
    PageHeadsOption,
    PageLayersOption,
    PageOption,
    PageStepsOption,
    QuietOption,
    SizeOption,
    SmallOption,
    SourcesArgument,
)
from .output import OutFolder, maker
from .report import MisuseError, note, one_line, print_path, reported
from .sources import Source, digest_of, sources_of
from .text import stem_of

if TYPE_CHECKING:
    from ..explorer import Explorer

ENDINGS = (".html", ".trx")
LIMIT = "12"
TRACE = ".safetensors"


def explore(
    sources: SourcesArgument,
    model: ModelOption = "bundled",
    layers: PageLayersOption = None,
    heads: PageHeadsOption = None,
    small: SmallOption = False,
    alpha: PageAlphaOption = ALPHA,
    limit: LimitOption = LIMIT,
    size: SizeOption = None,
    picture: BehindOption = None,
    steps: PageStepsOption = None,
    out: PageOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a page in which attention walks where you click, for pictures, texts and traces.

    One HTML file that opens from the disk: no server, no network. Every head of every layer is seen with its |λ2|; the
    layers that are told on stderr can be walked in.
    """
    with reported(quiet):
        options: dict[str, Any] = {
            "layers": layers_of(layers), "heads": heads_of(heads), "small": small, "alpha": alpha_of(alpha),
            "limit": 1_000_000 * whole_of(limit, "limit", 1, such_as=int(LIMIT)),
        }  # fmt: skip
        if picture is not None:
            options["picture"] = picture
        if steps is not None:
            options["steps"] = steps_of(steps)
        side = size_of(size)
        given = read(sources)
        path = _path(out, given)
        digest = digest_of("\n".join(one.digest or "" for one in given).encode())
        folder = OutFolder(path.parent, {path.name: digest}, overwrite)
        name = one_line(given[0].name) if len(given) == 1 else f"{len(given)} sources"

        def work(source: Source, say: Say) -> None:
            say("loading the model")
            from ..explorer import explore

            found = explore([one.value for one in given], model=model, size=side, **options)
            say("writing")
            print_path(folder.write(path.name, content_of(found, path.suffix.lower(), digest)))
            note(f"{name}: {told(found)}")

        each([Source(name, path.stem, digest)], "page", folder, work)


@dataclass(frozen=True)
class Given:
    """One source as it was meant.

    Attributes:
        value: for ``tr.explore``: a text, or the path of a picture or a trace.
        name: the file's, or the text's first words.
        stem: of the page.
        digest: of what is in it.
    """

    value: Any
    name: str
    stem: str
    digest: str | None


def read(sources: Sequence[str]) -> list[Given]:
    """What is a text and what a file, as ``tr.observe`` decides it; a text is told.

    Raises:
        InputError: an address, a folder without pictures.
    """
    from ..models.texts import reads_as_text

    found: list[Given] = []
    for source in sources:
        if reads_as_text(source):
            note(f"{printable(source)} is read as a text, since no file is called so")
            digest = digest_of(source.encode("utf-8", "surrogatepass"))
            found.append(Given(source, stem_of(source), stem_of(source), digest))
        else:
            files = sources_of([source], "picture", PICTURES)
            found += [Given(Path(file.path), file.name, file.stem, file.digest) for file in files]
    return found


def layers_of(text: str | None) -> list[Any] | None:
    """What ``--layers`` means: 8+11, names, globs."""
    return None if text is None else [layer_of(part) for part in _parts(text, "layers", "8+11")]


def heads_of(text: str | None) -> list[int] | None:
    """What ``--heads`` of a page means: 3, or 0+3+5.

    Raises:
        MisuseError: no whole numbers.
    """
    if text is None or text == "all":
        return None
    return _numbers(
        text,
        "heads",
        "numbers of heads that the page holds, such as 3 or 0+3; how they are mixed is chosen in the page",
    )


def steps_of(text: str) -> list[int]:
    """What ``--steps`` of a page means: 14, or 0+14+27.

    Raises:
        MisuseError: no whole numbers.
    """
    return _numbers(text, "steps", "numbers of forward calls, such as 14 or 0+14+27")


def _numbers(text: str, option: str, expected: str) -> list[int]:
    parts = _parts(text, option, "0+3")
    if not all(re.fullmatch(r"-?\d{1,9}", part, re.ASCII) for part in parts):
        raise MisuseError(f"{option} = {printable(text)}, expected {expected}")
    return [int(part) for part in parts]


def alpha_of(text: str) -> float:
    """What ``--alpha`` of a page means.

    Raises:
        MisuseError: no probability, or one that the page cannot show.
    """
    from ..explorer.state import ALPHAS

    value, (least, most) = share_of(text, "alpha"), ALPHAS
    if not least <= value <= most:
        raise MisuseError(f"alpha = {printable(text)}, expected a probability from {least} to {most}, such as 0.99")
    return value


def _parts(text: str, option: str, such_as: str) -> list[str]:
    parts = [part.strip() for part in re.split(r"[+,]", text)]
    if not all(parts):
        raise MisuseError(
            f"{option} = {printable(text)}, expected one, or several with + between them, such as {such_as}"
        )
    return parts


def content_of(explorer: Explorer, ending: str, digest: str) -> bytes:
    """Of the file, with who made it of what, behind all that is read of it."""
    if ending == ".trx":
        return explorer.trx() + maker(digest).encode()
    return f"{explorer.html()}\n<!-- {maker(digest)} -->\n".encode()


def told(explorer: Explorer) -> str:
    """Size, layers and error of a page in words: "1.2 MB; layers 8 and 11 of 0–11 …"."""
    sheets = explorer.index["sheets"]
    layers = [layer for sheet in sheets for layer in sheet["layers"]]
    stored = [layer for layer in layers if layer["stored"]]
    numbers = sorted({layer["number"] for layer in stored})
    last = max(layer["number"] for layer in layers)
    entry = max(layer["stored"]["errors"]["entry"] for layer in stored)
    types = " and ".join(sorted({layer["stored"]["type"] for layer in stored}))
    which = f"layer{'s' * (len(numbers) > 1)} {_listed(numbers)} of 0–{last}"
    rest = "" if len(numbers) == last + 1 else ", thumbnails of the others"
    stated = f"stored as {types}, probabilities off by {_upwards(entry)} at most"
    return f"{explorer.size / 1e6:.1f} MB; {which}{rest}; {stated}"


def _upwards(error: float) -> str:
    """One digit of a bound, never less than it is: of 1.07e-5 "2e-05"."""
    unit = 10.0 ** math.floor(math.log10(error)) if error > 0 else 1.0
    return f"{math.ceil(error / unit - 1e-9) * unit:.0e}"


def _listed(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def _path(out: Path | None, given: Sequence[Given]) -> Path:
    stem = given[0].stem if len(given) == 1 else f"{given[0].stem}-and-{len(given) - 1}-more"
    path = OUT / f"{stem}-explorer.html" if out is None else out.expanduser()
    if path.suffix.lower() not in ENDINGS:
        raise MisuseError(f"out = {printable(path)}, expected the name of a file that ends in .html or .trx")
    if path.is_dir():
        raise InputError(f"{printable(path)} is a folder; give the name of a file with --out")
    return path
