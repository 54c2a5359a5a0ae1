"""Blanks that go from the page's code, and those that stay; nothing in it that nobody needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tokenrank.explorer import module
from tokenrank.explorer.shorten import shortened, tokens

FILES = sorted(module.PAGE.glob("*.js"))

# text, what stays of it
CASES = [
    ("const a = b + 1", "const a=b+1"),
    ("a + +b - -c - --d", "a+ +b- -c- --d"),
    ("a++\nb", "a++\nb"),
    ("a\n++b", "a\n++b"),
    ("f(a,\n  b)\n  .c()", "f(a,b).c()"),
    ("if (a) {\n  b()\n}\nc()", "if(a){b()}\nc()"),
    ("return\na", "return\na"),
    ("x = a / b / c", "x=a/b/c"),
    ("x = a\n/b/g", "x=a\n/b/g"),
    ("x = y ? / +/ : 'a  b' // said", "x=y?/ +/:'a  b'"),
    ("return / [/] / .test(a)", "return/ [/] /.test(a)"),
    ("`a  ${ b + `c  ${d}` }  '`", "`a  ${ b + `c  ${d}` }  '`"),
    ("a < !--b", "a< !--b"),
    ("a-- > b", "a-- >b"),
    ("1 .toFixed()", "1 .toFixed()"),
    ("x = 1.5e3 in y", "x=1.5e3 in y"),
    ("'it\\'s  //' + \"a  b\" /* c */ + d", "'it\\'s  //'+\"a  b\"+d"),
    ("a = {...b, get c() { return 1 }}", "a={...b,get c(){return 1}}"),
]


@pytest.mark.parametrize(("text", "short"), CASES)
def test_what_stays(text: str, short: str) -> None:
    assert shortened(text) == short


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_keeps_its_tokens(path: Path) -> None:
    def kept(text: str) -> list[str]:
        return [token for kind, token in tokens(text) if kind not in ("blank", "comment")]

    text = path.read_text("utf-8")
    short = shortened(text)
    assert kept(short) == kept(text)
    assert shortened(short) == short


def test_what_is_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match="no token"):
        shortened("a = 'b")


def test_nothing_of_the_page_is_without_use() -> None:
    """Every name of the top level is used, what is exported by another file or a test, every class of a style."""
    sources = {path.name: path.read_text("utf-8") for path in FILES}
    tests = "\n".join(
        path.read_text("utf-8") for path in Path(__file__).parent.rglob("*") if path.suffix in (".js", ".py")
    )
    idle = []
    for name, text in sources.items():
        code = re.sub(r"/\*.*?\*/|^\s*//[^\n]*", "", text, flags=re.DOTALL | re.MULTILINE)
        others = "\n".join(other for of, other in sources.items() if of != name) + tests
        for declared in re.findall(
            r"^(?:export )?(?:async )?(?:function\*?|class|const|let) ([\w$]+)", code, re.MULTILINE
        ):
            exported = re.search(rf"^export .*?\b{re.escape(declared)}\b", code, re.MULTILINE)
            used = len(re.findall(rf"(?<![\w$]){re.escape(declared)}(?![\w$])", code)) > 1
            imported = re.search(rf"(?<![\w$]){re.escape(declared)}(?![\w$])", others)
            if not (imported if exported else used) and name != "types.js":
                idle.append(f"{name}: {declared}")
    strings = [token for text in sources.values() for kind, token in tokens(text) if kind == "string"]
    words = " ".join(token for token in strings if re.fullmatch(r".[\w -]+.", token))
    for style in sorted(module.PAGE.glob("*.css")):
        text = re.sub(r"/\*.*?\*/|\"[^\"]*\"|\d*\.\d+", "", style.read_text("utf-8"), flags=re.DOTALL)
        idle += [f"{style.name}: .{name}" for name in set(re.findall(r"\.([a-z][\w-]*)", text))
                 if not re.search(rf"(?<![\w-]){name}(?![\w-])", words)]  # fmt: skip
    assert not idle, "\n".join(idle)
