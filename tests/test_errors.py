from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tokenrank import errors
from tokenrank.errors import near, nearest, nearest_file

SHORT = ["mean", "none", "halflife"]
LONG = [f"model.layer.{i}.attention" for i in range(12)]


@pytest.mark.parametrize(
    ("name", "known", "words"),
    [
        ("x", [], "there are none"),
        ("halflif", SHORT, "nearest: 'halflife'; all: 'mean', 'none', 'halflife'"),
        ("gif", ["png", "pdf", "svg"], "expected one of 'png', 'pdf', 'svg'"),
        ("x", ["image"], "expected 'image'"),
        ("imge", ["image"], "nearest: 'image'"),
        ("HALFLIFE", SHORT, "nearest: 'halflife'; all: 'mean', 'none', 'halflife'"),
        ("zzz", LONG, f"expected one of 12 names: {', '.join(map(repr, LONG[:3]))}, …"),
    ],
)
def test_names_that_are_near_and_lists_that_are_short(name: str, known: list[str], words: str):
    assert nearest(name, known) == words


def test_of_a_long_list_the_near_ones_and_how_many_there_are():
    words = nearest("model.layer.7.atention", LONG)
    assert words.startswith("nearest: 'model.layer.7.attention', ")
    assert words.endswith(" (12 in all)")
    assert len(near("model.layer.7.atention", LONG)) == 3


def test_files_that_are_not_near_are_no_help():
    files = ["astronaut-bounces.png", "table.json", "coffee.jpg"]
    assert nearest_file("cofee.jpg", files) == "in its folder, nearest: 'coffee.jpg'"
    assert nearest_file("xyz.webp", files) == "in its folder no name is near to it"
    assert nearest_file("cofee.jpg", ["coffee\x1b.jpg"]) == "in its folder, nearest: 'coffee\\x1b.jpg'"


def test_every_warning_is_one_that_commands_show():
    """A command shows warnings of ours alone: one of another class would be lost."""
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Warning)}
    assert all(issubclass(kind, errors.TokenRankWarning) for kind in kinds)
    names, given = {kind.__name__ for kind in kinds}, []
    for file in Path(errors.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                category = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "category")]
                given.append((file.name, ast.unparse(category[0]) if category else "none"))
    assert len(given) > 5
    assert not [call for call in given if call[1] not in names]
