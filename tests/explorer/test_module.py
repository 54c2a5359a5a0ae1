"""The page as one module: what joining keeps, drops and refuses, and how large it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from tokenrank.explorer import module

LARGEST = {"plain": 152_000, "deflated": 53_000}
"""Bytes of the module with style sheets and kernel, as it stands in a page and as servers send it."""
NODE = shutil.which("node")


def page(folder: Path, **files: str) -> Path:
    """A folder of files; ``main`` is ``main.js``, ``a_css`` is ``a.css``."""
    for name, text in files.items():
        stem, _, suffix = name.partition("_")
        (folder / f"{stem}.{suffix or 'js'}").write_text(text, encoding="utf-8")
    return folder


def test_it_is_small() -> None:
    text = module.joined().encode()
    assert len(text) < LARGEST["plain"]
    assert len(zlib.compress(text, 9)) < LARGEST["deflated"]


def test_it_imports_nothing_and_exports_what_hosts_call() -> None:
    text = module.joined()
    assert not re.search(r"^\s*import\b", text, re.MULTILINE)
    exported = re.findall(r"^export (?:async )?(?:default|function|class|const)\b.*", text, re.MULTILINE)
    assert any(line.startswith("export async function mount(") for line in exported)
    assert any(line.startswith("export default") for line in exported)
    assert "/**" not in text


@pytest.mark.skipif(NODE is None, reason="no node on the PATH")
def test_it_is_a_module(tmp_path: Path) -> None:
    path = tmp_path / "joined.mjs"
    path.write_text(module.joined(), encoding="utf-8")
    done = subprocess.run([str(NODE), "--check", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_file_is_reached() -> None:
    """Nothing lies in the folder that the page does not use."""
    reached = set(module.order(module.PAGE))
    assert {path.name for path in module.PAGE.glob("*.js")} - reached == {"types.js"}
    styled = {path.stem for path in module.PAGE.glob("*.css")}
    assert styled <= {Path(name).stem for name in reached} | {"style"}


def test_the_style_sheets_and_the_kernel_travel_in_it() -> None:
    text = module.joined()
    assert '"style.css":":host{--paper:' in text
    assert all(f'"{kernel.name}":"' in text for kernel in module.PAGE.glob("*.wasm"))
    assert "const FILES={}" not in text


def test_joining(tmp_path: Path) -> None:
    folder = page(
        tmp_path,
        main="import {one} from './a.js'\n\n/**\n * What it is.\n */\nexport function mount() {\n  // why\n"
        "  return one() + /** @type {any} */ (1) // there\n}\n",
        a="import {two} from './b.js'\n/* c */\nexport function one() {\n  const here = two\n  return here\n}\n",
        b="export const two = 'https://a /* b */ // c'\n",
        unused="export const two = 3\n",
    )
    assert module.join(folder).splitlines() == [
        "const two='https://a /* b */ // c'",
        *["function one(){const here=two", "return here}"],
        "export function mount(){return one()+(1)}",
    ]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"main": "import one from './a.js'\n", "a": ""}, "main.js, line 1: .*expected import"),
        ({"main": "import {one} from './a.js'\n"}, "main.js imports a.js, which is not in"),
        (
            {"main": "import {one} from './a.js'\n", "a": "const one = 1\n"},
            "imports one from a.js, which does not",
        ),
        (
            {"main": "import {a} from './a.js'\nconst b = 1\n", "a": "export const a = 1\nconst b = 2\n"},
            "b is decl",
        ),
        ({"main": "const {b, c} = {}\nconst c = 1\n"}, "c is declared in main.js and in main.js"),
        (
            {"main": "const b = f(1, c = 2), c = {d: 1}\nconst d = 1\nlet e, c\n"},
            "^c is declared in main.js and in main",
        ),
        ({"main": "import {a} from './a.js'\n", "a": "export const a = 1\nexport {a as b}\n"}, "a.js, line 2"),
        ({"main": "import {a} from './a.js'\n", "a": "export const a = 1\nexport default a\n"}, "a.js, line 2"),
        ({"main": "const a = 'b\nc'\n"}, "main.js: .* is no token of JavaScript"),
        ({"main": "const a = '</SCRIPT>'\n"}, "end or change a script"),
    ],
)
def test_what_breaks_a_rule_is_refused(tmp_path: Path, files: dict[str, str], words: str) -> None:
    with pytest.raises(module.PageError, match=words):
        module.join(page(tmp_path, **files))


def test_files_that_import_each_other(tmp_path: Path) -> None:
    """Functions may need each other across files; they are all there when the first is called."""
    folder = page(
        tmp_path,
        main="import {a} from './a.js'\nexport function mount() { return a() }\n",
        a="import {b} from './b.js'\nexport function a() { return b }\n",
        b="import {a} from './a.js'\nexport function b() { return a }\n",
    )
    assert module.order(folder) == ["b.js", "a.js", "main.js"]
