"""The page's modules joined to one ES module, with its style sheets and its kernel: no bundler, no build step.

What makes that simple are rules of the page's own files: imports are single lines ``import {a, b} from './x.js'`` at
the top; exports are ``export function``, ``export async function``, ``export class`` and ``export const``, and a
default only in ``main.js``; no name of the top level occurs in two files. ``joined`` refuses what breaks them. Comments
and blanks that nobody needs are left out (``shorten.py``); names stay.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from functools import cache
from pathlib import Path

from .shorten import shortened

PAGE = Path(__file__).parent / "page"
MAIN, FILES = "main.js", "files.js"

_IMPORT = re.compile(r"^import \{([\w$, ]+)\} from '\./([\w.]+)'$")
_DECLARED = re.compile(r"^(?:export )?(?:default )?(?:async )?(function\*?|class|const|let|var) ?(.+)")
_EXPORTED = re.compile(r"^export (?:async )?(?:function\*? ?|class |const )([\w$]+)")
_TABLE = "const FILES={}"


class PageError(ValueError):
    """A file of the page breaks a rule of joining; it names file, line and rule."""


@cache
def joined() -> str:
    """The module: text of JavaScript that imports nothing and exports what ``main.js`` does."""
    return join(PAGE)


def join(page: Path) -> str:
    """One module of the files of a folder, from ``main.js``; files that it does not reach are left out.

    Raises:
        PageError: a file breaks a rule of joining.
    """
    parts = [_stripped(page / name, name == MAIN) for name in order(page)]
    names: dict[str, str] = {}
    for name, text in zip(order(page), parts, strict=True):
        for declared in _declared(text):
            if declared in names:
                raise PageError(f"{declared} is declared in {names[declared]} and in {name}; rename one of them")
            names[declared] = name
    text = "\n".join(map(_short, parts, order(page)))
    if _TABLE in text:
        text = text.replace(_TABLE, f"const FILES={json.dumps(_files(page), separators=(',', ':'))}")
    if re.search(r"</script|<!--", text, re.IGNORECASE):
        raise PageError(
            "the page holds </script or <!--, which end or change a script in HTML; write them in two parts"
        )
    return text + "\n"


def order(page: Path) -> list[str]:
    """Names of the files that ``main.js`` reaches, each after those that it imports from.

    Raises:
        PageError: a file imports what there is not.
    """
    found: list[str] = []
    opened: set[str] = set()

    def visit(name: str, asked: str) -> None:
        if name in opened:
            return
        opened.add(name)
        path = page / name
        if not path.is_file():
            raise PageError(f"{asked} imports {name}, which is not in {page.name}/")
        for names, source in _imports(path):
            visit(source, name)
            missing = names - _exports(page / source)
            if missing:
                raise PageError(f"{name} imports {', '.join(sorted(missing))} from {source}, which does not export it")
        found.append(name)

    visit(MAIN, "the joiner")
    return found


def _imports(path: Path) -> list[tuple[set[str], str]]:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if re.match(r"import\b(?!\()", line):
            match = _IMPORT.match(line)
            if not match:
                raise PageError(f"{path.name}, line {number}: {line!r}; expected import {{a, b}} from './x.js'")
            found.append(({name.strip() for name in match[1].split(",")}, match[2]))
    return found


def _exports(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {match[1] for match in map(_EXPORTED.match, lines) if match}


def _declared(text: str) -> list[str]:
    """Names that lines at the left edge declare, several in one line too; of a pattern, all words in it."""
    found = []
    for line in text.splitlines():
        match = _DECLARED.match(line)
        if not match:
            continue
        kind, rest = match.groups()
        if kind in ("const", "let", "var"):
            rest = re.sub(r"'(?:[^'\\]|\\.)*'|`[^`]*`", "0", rest)
            for pattern in re.findall(r"^[\[{][^=]*", rest):
                found += re.findall(r"[\w$]+", pattern)
            inner = ""
            while inner != rest:
                inner, rest = rest, re.sub(r"[(\[{][^()\[\]{}]*[)\]}]", "", rest)
            found += re.findall(r"(?:^|, )([\w$]+)(?= = |$|,)", rest)
        else:
            found += re.findall(r"^[\w$]+", rest)
    return found


def _stripped(path: Path, main: bool) -> str:
    """The lines of a file without imports, and without ``export`` where it is not ``main.js``."""
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if _IMPORT.match(line):
            continue
        if not main and line.startswith("export "):
            if not _EXPORTED.match(line):
                raise PageError(f"{path.name}, line {number}: {line!r}; expected export function, class or const NAME")
            line = line.removeprefix("export ")
        lines.append(line)
    return "\n".join(lines)


def _short(text: str, name: str) -> str:
    try:
        return shortened(text)
    except ValueError as error:
        raise PageError(f"{name}: {error}") from error


def _files(page: Path) -> dict[str, str]:
    """What travels in the module beside its code: the style sheets of the files that are in it, and the kernel."""
    names = ["style.css", *(Path(name).with_suffix(".css").name for name in order(page))]
    sheets = [page / name for name in dict.fromkeys(names) if (page / name).is_file()]
    found = {"style.css": "\n".join(_styles(sheet) for sheet in sheets)}
    for kernel in page.glob("*.wasm"):
        found[kernel.name] = b64encode(kernel.read_bytes()).decode()
    return found


def _styles(path: Path) -> str:
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"\s*([{};,>])\s*", r"\1", re.sub(r"\s+", " ", text)).replace(";}", "}").strip()
    return re.sub(r"([{;][\w-]+:) ", r"\1", text)  # of properties alone: a blank before : means another element
