"""Hostile strings in every place where a string can come in, and what is seen of them where strings go out.

    python benchmarks/robustness/strings.py --out benchmarks/results/robustness-strings.json

200 strings: codes of terminals, marks that turn the direction of writing, line breaks, NUL, surrogates, markup and
scripts of HTML, SVG, Markdown and rich, formulas, paths, and texts of a megabyte. Counted for every place: characters
on a terminal that act instead of being seen, errors that are not ours, of no end, or of several lines, elements and
attributes of a page or a drawing that were not ours, and JSON that does not hold the string. All must be 0.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sys
import tempfile
import warnings
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from facts import facts, parser, save

import tokenrank as tr
from tokenrank.errors import TokenRankError

LONGEST = 20_000  # characters of an error
PLAIN = "plain"
"""The string that the others are compared with."""

ATOMS = (
    "\x1b[31mred", "\x1b]0;title\x07", "\x1b[2J\x1b[H", "\x9b31m", "\x07\x08\x08", "\r\nerror: forged", "a\nb", "a\rb",
    "\t", "\x00", "a\x00b", "\x7f", "\x85", "\u2028line", "\u2029paragraph", "\u202egnp.exe",
    "\u202aa\u202bb\u202cc\u202dd", "\u2066a\u2067b\u2068c\u2069", "\u200ea\u200fb", "\u061ca", "\ufeffbom",
    "\u200bzero", "\xadsoft", "\ud800", "\udcff\udcfe", "\ue000private", "\U000e0041tag", "\uffff",
    "<script>alert(1)</script>", "</td></table><img src=x onerror=alert(1)>", '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)", "-->", "]]>", "<!--", "<?xml?>", "&lt;b&gt;", "&#27;[31m",
    "</style><style>*{display:none}", "javascript:alert(1)", "url(http://example.org)", "[bold]x[/bold]", "[/]",
    ":boom:", "{0}{name!r}", "%s%n%d", "$x_{1}$", "\\frac{1}{0}", "\\x1b", "`id`", "$(id)",
    "| a | b |", "![](http://example.org/a)", "# Heading", "../../../etc/passwd", "C:\\con", "a" * 300,
    "\u0301" * 60, "שלום", "漢字",
    "🦆", "'", '"', "\\",
)  # fmt: skip


def strings(count: int) -> list[str]:
    """As many different ones, the same every time: the atoms, combinations of them, and some of a megabyte."""
    draw = random.Random(0)
    found = dict.fromkeys(ATOMS)
    for atom in ("\u202e", "\x1b[31m", "<b>", "x"):
        found[atom * (2**20 // len(atom))] = None
    while len(found) < count:
        found["".join(draw.choices((*ATOMS[:-8], "x", " "), k=draw.randint(2, 4)))] = None
    chosen = list(found)
    return chosen if count >= len(chosen) else draw.sample(chosen, count)


class Watch:
    """What is wrong with texts that come out of a place."""

    def __init__(self) -> None:
        self.wrong: Counter[str] = Counter()
        self.shown: list[str] = []
        self._usual: dict[str, set[tuple[str, str]]] = {}

    def __call__(self, kind: str, is_right: bool, text: str) -> None:
        """Count where something is not right."""
        if not is_right:
            self.wrong[kind] += 1
            self.shown.append(f"{kind}: {text[:300]!r}")

    def terminal(self, text: str, lines: int | None = None) -> None:
        """Text for a terminal, of so many lines at most."""
        split = text.removesuffix("\n").split("\n")
        self("acts", all(line.isprintable() for line in split), text)
        self("endless", len(text) < LONGEST, text)
        self("lines", lines is None or len(split) <= lines, text)

    def error(self, call: Callable[[], object]) -> None:
        """A call that must fail in our words."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call()
        except TokenRankError as error:
            self.terminal(str(error))
        except Exception as error:
            self("foreign", False, f"{type(error).__name__}: {error}")

    def page(self, place: str, text: str, usual: bool = False) -> None:
        """HTML with no element and no attribute beyond those of the page of the plain string."""
        found = _Elements(text).found
        self._usual.setdefault(place, set()).update(found if usual else ())
        self("elements", found <= self._usual[place], f"{found - self._usual[place]}")
        # a joiner shapes the letters beside it
        odd = [c for c in text if not (c.isprintable() or c in "\n\u200d")]
        self("acts", not odd, f"{odd[:5]}")

    def drawing(self, place: str, text: str, usual: bool = False) -> None:
        """The same of an SVG, which must be XML."""
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            self("elements", False, str(error))
            return
        found = {(element.tag, name) for element in root.iter() for name in ("", *element.attrib)}
        self._usual.setdefault(place, set()).update(found if usual else ())
        strange = {pair for pair in found - self._usual[place] if not pair[0].endswith(_DRAWN)}
        self("elements", not strange, f"{strange}")
        self("acts", all(c.isprintable() or c == "\n" for c in text), "")


_DRAWN = ("}use", "}path", "}g", "}defs", "}clipPath", "}rect", "}image")  # letters are drawn as these


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {(tag, ""), *((tag, name) for name, _ in attrs)}

    def handle_comment(self, data: str) -> None:
        self.found.add(("comment", ""))

    def handle_pi(self, data: str) -> None:
        self.found.add(("instruction", ""))


class Terminal(io.StringIO):
    """A stream that is watched by somebody."""

    def isatty(self) -> bool:
        return True


def said(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command; both are terminals."""
    from tokenrank.cli import main

    out, err = Terminal(), Terminal()
    os.environ["TOKENRANK_PROGRESS"] = "0"  # bars are drawn with codes of our own
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            return int(end.code or 0), out.getvalue(), err.getvalue()
    raise AssertionError("main returned")


class Place:
    """A folder to work in, and a network that is quick."""

    def __init__(self, root: Path, vit: Path) -> None:
        self.root, self.vit = root, vit
        self.picture = root / "noise.png"
        noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).save(self.picture)

    def named(self, name: str) -> Path | None:
        """A file of that name with a picture in it; None where no disk takes the name."""
        path = self.root / f"{name.replace('/', '-')}.png"
        try:
            path.write_bytes(self.picture.read_bytes())
        except (OSError, ValueError):
            return None
        return path

    def folder(self, name: str) -> Path | None:
        """A new folder of that name; None where no disk takes it."""
        path = self.root / "folders" / ("of " + name.replace("/", "-"))
        try:
            path.mkdir(parents=True)
        except (OSError, ValueError):
            return None
        return path


def missing_file(text: str, watch: Watch, place: Place) -> None:
    """The name of a file that is not there, for a command and a function."""
    code, _, err = said("saliency", f"{text}.png", "--out", str(place.root / "out"))
    watch("code", code in (0, 1, 2), f"{code}")
    watch.terminal(err, 1)
    watch.error(lambda: tr.observe(Path(f"{text}.png")))
    watch.error(lambda: tr.load_trace(f"{text}.safetensors"))


def file_name(text: str, watch: Watch, place: Place) -> None:
    """The name of a picture: results, paths on stdout, COCO and the table, warnings, the next error."""
    path = place.named(text)
    if path is None:
        return
    out, usual = place.root / "out", ("--model", str(place.vit), "--start", "cls", "--formats", "coco")
    code, paths, err = said("segment", str(path), *usual, "--out", str(out))
    watch("code", code in (0, 1), f"{code} {err}")
    watch.terminal(err)
    watch.terminal(paths)
    for file in out.glob("*.json") if out.is_dir() else ():
        content = json.loads(file.read_text(encoding="utf-8"))
        watch("json", content["images"][0]["file_name"].isprintable(), str(content["images"]))
        file.unlink()
    path.write_bytes(b"no picture")
    watch.terminal(said("segment", str(path), str(place.picture), *usual, "--out", str(out), "--overwrite")[2])
    path.unlink()


def option(text: str, watch: Watch, place: Place) -> None:
    """The value of every option that takes text, and a command's name."""
    usual = (str(place.picture), "--model", str(place.vit), "--out", str(place.root / "out"))
    for name in ("--layer", "--heads", "--tokens", "--start", "--n", "--alpha", "--size", "--formats", "--table"):
        code, _, err = said("image", *usual, f"{name}={text}", "--formats=gif")
        watch("code", code in (1, 2), f"{name} {code} {err}")
        watch.terminal(err, 1)
    for arguments in (
        ["image", *usual[:1], "--model", text], ["image", *usual, f"--{text}"], [text], ["reproduce", text or "x"],
        ["image", *usual, "--layer", text, "--n", "1"] if not text.strip().isdecimal() else ["x"],
    ):  # fmt: skip
        code, _, err = said(*arguments)
        watch("code", code in (1, 2) or not text, f"{arguments} {code} {err}")
        watch.terminal(err, 1 if text else None)


def config(text: str, watch: Watch, place: Place) -> None:
    """Fields of a model's config.json."""
    folder = place.root / "model"
    folder.mkdir(exist_ok=True)
    known = json.loads((place.vit / "config.json").read_text())
    for changed in (
        {"model_type": text}, {"architecture": text}, {**known, "hidden_size": text}, {**known, "patch_size": text},
        {**known, "hidden_act": text},
        {**known, "auto_map": {"AutoModel": text}, "model_type": "x" + text}, {text: text},
    ):  # fmt: skip
        (folder / "config.json").write_text(json.dumps(changed))
        watch.error(lambda: tr.load(folder))
    (folder / "config.json").write_text('{"a": ' + text, encoding="utf-8", errors="surrogatepass")
    watch.error(lambda: tr.load(folder))


def safetensors(text: str, watch: Watch, place: Place) -> None:
    """Names of tensors and notes of a file of weights."""
    from safetensors.torch import save as content

    path = place.root / "trace.safetensors"
    name = text.encode("utf-8", "replace").decode()  # such a file holds UTF-8
    weights = torch.softmax(torch.randn(1, 2, 4, 4), -1)
    for tensors, notes in (
        ({name: torch.ones(3)}, {}),
        ({name or "x": weights}, {name: name}),
        ({"a": weights}, {name: "x"}),
    ):
        path.write_bytes(content(tensors, notes))
        try:
            trace = tr.load_trace(path)
        except TokenRankError as error:
            watch.terminal(str(error))
        else:
            watch.terminal(repr(trace))
            watch.page("trace", trace._repr_html_(), usual=text == PLAIN)
            watch.error(lambda trace=trace: trace[name + "x"])  # type: ignore[misc]


def layer_name(text: str, watch: Watch, place: Place) -> None:
    """The name of a layer."""
    weights = torch.softmax(torch.randn(1, 2, 4, 4), -1)
    trace = tr.from_attentions([weights], names=[text or "x"])
    watch.terminal(repr(trace))
    watch.page("layers", trace._repr_html_(), usual=text == PLAIN)
    watch.error(lambda: trace["nothing like it"])


def token(text: str, watch: Watch, place: Place) -> None:
    """A token of a tokenizer, and the name of a span."""
    weights = torch.softmax(torch.randn(1, 4, 4, dtype=torch.float64), -1)
    chain = tr.AttentionChain(weights, tr.TokenLayout.text(["a", text, "b", text]))
    found = chain.tokenrank()
    watch.page("token map", found._repr_html_(), usual=text == PLAIN)
    watch.page("chain", getattr(chain, "_repr_html_", str)(), usual=text == PLAIN)
    for shown in (repr(found), repr(chain)):
        watch.terminal(shown)
    watch("acts", repr(chain.layout).isprintable(), repr(chain.layout))  # of a layout all is shown, to be copied
    watch.error(lambda: chain.bounce("no such word"))
    watch.error(lambda: chain.bounce(f"{text} "))
    spans = tr.TokenLayout({text or "x": 4})
    watch("acts", repr(spans).isprintable(), repr(spans))
    watch.terminal(str(spans))
    watch.error(lambda: spans.indices(text + "x"))
    watch.page("layout", spans._repr_html_(), usual=text == PLAIN)
    watch.error(lambda: spans.indices("no such span"))


def labels(text: str, watch: Watch, place: Place) -> None:
    """Names of labels, such as categories of COCO: a drawing, a page, COCO."""
    from tokenrank.tasks.segmentation import Segmentation
    from tokenrank.view import labels_figure, render

    with PIL.Image.open(place.picture) as opened:
        picture = opened.convert("RGB")
    grid = np.indices((32, 32)).sum(0) // 32
    short = text[:3000] if len(text) > 3000 else text
    found = Segmentation(grid, ("background", short), picture=picture, caption=short)
    watch.terminal(repr(found))
    watch.page("labels", found._repr_html_(), usual=text == PLAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        watch.drawing("labels", render(labels_figure(found), "svg").decode("utf-8"), usual=text == PLAIN)
    json.loads(found.encoded(".json", text))


def data_set(text: str, watch: Watch, place: Place) -> None:
    """Folders of a data set, its classes, and what names them in an error."""
    from tokenrank.evaluate.datasets.opening import open_dataset

    watch.error(lambda: open_dataset(text, place.root))
    watch.error(lambda: open_dataset("ecssd", place.root / f"missing{text.replace('/', '-')}"))
    folder = place.folder(text)
    if folder is None:
        return
    for name in ("ecssd", "voc2012", "coco-panoptic", "bsds500", "imagenet-folder", "parquet", "folder"):
        watch.error(lambda name=name: open_dataset(name, folder))  # type: ignore[misc]
    (folder / "x.png").write_bytes(b"no picture")
    known = open_dataset("imagenet-folder", folder.parent)
    watch.error(lambda: known.read(known.keys[0]))
    (folder / "x.png").unlink()
    folder.rmdir()


def report(text: str, watch: Watch, place: Place) -> None:
    """Everything that a report quotes: methods, classes, errors, settings."""
    from tokenrank.evaluate.report.blocks import Caution, Facts, Heading, Paragraph, Table
    from tokenrank.evaluate.report.markdown import markdown
    from tokenrank.evaluate.report.page import page

    blocks = (
        Heading(text, 1), Heading("Section " + text, 2), Paragraph(text), Caution(text),
        Table(text, ("a", text), ((text, text),)), Facts(text, ("a", text), ((text, text),)),
    )  # fmt: skip
    watch.page("report", page(blocks), usual=text == PLAIN)
    written = markdown(blocks)
    watch("acts", all(c.isprintable() or c == "\n" for c in written), written)
    watch("lines", written.count("\n") <= markdown(_plain_blocks(blocks)).count("\n"), written)


def _plain_blocks(blocks: tuple[Any, ...]) -> tuple[Any, ...]:
    from tokenrank.evaluate.report.blocks import Caution, Facts, Heading, Paragraph, Table

    x = "x"
    return (
        Heading(x, 1), Heading(x, 2), Paragraph(x), Caution(x), Table(x, ("a", x), ((x, x),)),
        Facts(x, ("a", x), ((x, x),)),
    )  # fmt: skip


PLACES: dict[str, Callable[[str, Watch, Place], None]] = {
    "name of a missing file": missing_file,
    "name of a picture": file_name,
    "option": option,
    "config.json": config,
    "safetensors": safetensors,
    "layer": layer_name,
    "token, span": token,
    "label": labels,
    "data set": data_set,
    "report": report,
}
KINDS = ("acts", "endless", "lines", "foreign", "elements", "json", "code")


def network(folder: Path) -> Path:
    """A vision transformer of random weights that takes milliseconds."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    DINOv3ViTModel(DINOv3ViTConfig(**sizes, patch_size=8, image_size=32)).save_pretrained(folder)
    prepared = {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder


def attack(
    given: list[str], root: Path, vit: Path, most: int | None = None
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each place with its counts, and what was wrong in words.

    Args:
        given: the strings.
        root: an empty folder.
        vit: of ``network``.
        most: strings for each place; all of them by default.
    """
    for number, (name, put) in enumerate(PLACES.items()):
        folder = root / str(number)
        folder.mkdir()
        place, watch = Place(folder, vit), Watch()
        # each place gets others where it does not get all
        chosen = given if most is None else [given[(number * most + i) % len(given)] for i in range(most)]
        before = Path.cwd()
        os.chdir(folder)
        try:
            for text in (PLAIN, *chosen):
                try:
                    put(text, watch, place)
                except Exception as error:
                    watch("foreign", False, f"{text[:60]!r}: {type(error).__name__}: {error}")
        finally:
            os.chdir(before)
        counts = {kind: watch.wrong[kind] for kind in KINDS}
        yield {"place": name, "strings": len(chosen), **counts}, watch.shown


def main() -> None:
    """The whole attack."""
    arguments = parser(__doc__)
    arguments.add_argument("--strings", type=int, default=200)
    given = arguments.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        vit = network(Path(folder) / "vit")
        for row, shown in attack(strings(given.strings), Path(folder), vit):
            rows.append(row)
            print(row, *shown[:20], sep="\n  ", file=sys.stderr, flush=True)
    totals = {kind: sum(row[kind] for row in rows) for kind in KINDS}
    print({"strings": given.strings, "places": len(rows), **totals})
    save(given.out, {**facts(), "strings": given.strings, "places": len(rows), **totals}, rows)
    sys.exit(1 if any(totals.values()) else 0)


if __name__ == "__main__":
    main()
