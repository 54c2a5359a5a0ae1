"""The single file: its policy, and text of the index that is data in it whatever it holds."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenrank.explorer import file
from tokenrank.explorer.blob import as_json

HOSTILE = '</script><script>alert(1)</script><!-- \u2028\u2029 \ud800 \u202e " & ]]> \x00'


class Reader(HTMLParser):
    """Tags with their attributes and what they hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs), []))
        self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def handle_data(self, data: str) -> None:
        if self.open:
            self.tags[-1][2].append(data)

    def of(self, tag: str, **wanted: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attributes, "".join(text))
            for name, attributes, text in self.tags
            if name == tag and wanted.items() <= attributes.items()
        ]


def index(**more: Any) -> dict[str, Any]:
    return {"format": "TRX1", "generator": "tokenrank", "title": "a title", "sheets": [], **more}


def test_the_policy_lets_its_own_module_and_style_run_and_nothing_else() -> None:
    page = Reader(file.html(index(), []))
    ((policy, _),) = page.of("meta", **{"http-equiv": "Content-Security-Policy"})
    ((_, module),) = page.of("script", type="module")
    ((_, style),) = page.of("style")

    def of(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    assert policy["content"] == (
        f"default-src 'none'; script-src {of(module)} 'wasm-unsafe-eval'; style-src {of(style)}; img-src data: blob:; "
        "worker-src blob:; base-uri 'none'; form-action 'none'"
    )


def test_parts_are_where_the_index_says() -> None:
    parts = [b"\x00\x01\x02", b"", bytes(range(256))]
    found = Reader(file.html(index(), parts)).of("script", type="application/octet-stream")
    assert [(a["data-at"], a["data-length"]) for a, _ in found] == [("0", "3"), ("3", "0"), ("3", "256")]
    assert [b64decode(text) for _, text in found] == parts


@given(st.text(st.characters(categories=None, exclude_categories=()), max_size=60))
def test_text_comes_back(text: str) -> None:
    written = as_json({"title": text})
    assert json.loads(written) == {"title": text}
    assert written.isascii()
    assert "<" not in written


def test_hostile_text_makes_no_element() -> None:
    plain, hostile = (Reader(file.html(index(title=title, generator=title), [])) for title in ("a", HOSTILE))
    assert [tag for tag, _, _ in hostile.tags] == [tag for tag, _, _ in plain.tags]
    ((_, data),) = hostile.of("script", id="index")
    assert json.loads(data)["title"] == HOSTILE


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        file.html(index(alpha=float("nan")), [])
