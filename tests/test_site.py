"""The documentation as a site: it builds without a warning, has every public name, and is read without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from inspect import isfunction
from pathlib import Path
from pkgutil import resolve_name

import pytest
import typer

import tokenrank as tr
from tests.browser import DESK, PHONE, SCHEMES, Browser
from tokenrank.cli import app

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs/reference"
ROOMS = {
    "distributed": tr.distributed,
    "tasks": tr.tasks,
    "baselines": tr.baselines,
    "view": tr.view,
    "evaluate": tr.evaluate,
}
NOT_DESCRIBED = {"COLUMN", "FORMATS", "FULL", "FILLED"}
"""Constants, which their functions name."""


def described() -> set[str]:
    """Dotted names that the pages of the reference are made of."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))
    names = re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE)
    # a function in a module of its own name is asked for by both, or its page would be the module's
    return {re.sub(r"\.(\w+)\.\1$", r".\1", name) for name in names}


def test_every_public_name_is_in_the_reference() -> None:
    elsewhere = {"Certificate": "markov.Certificate", "Lambda2": "markov.Lambda2"}
    names = {elsewhere.get(name, name) for name in tr.__all__ if name not in (*ROOMS, "errors")}
    names |= {f"{room}.{n}" for room, module in ROOMS.items() for n in module.__all__ if n not in NOT_DESCRIBED}
    kinds = {name: thing for name, thing in vars(tr.errors).items() if isinstance(thing, type)}
    names |= {f"errors.{name}" for name, kind in kinds.items() if issubclass(kind, Exception)}
    assert not sorted({f"tokenrank.{name}" for name in names} - described())


def test_every_question_is_in_the_reference() -> None:
    """The answers of ``tokenrank.markov`` and the functions that give them."""
    from tokenrank import markov

    answers = {name for name in markov.__all__ if isinstance(thing := getattr(markov, name), type) and thing.__doc__}
    missing = {name for name in answers if f"tokenrank.markov.{name}" not in described()}
    assert not missing
    questions = {n for n in dir(tr.AttentionChain) if n in markov.__all__}
    assert not {name for name in questions if f"tokenrank.markov.{name}" not in described()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason='no mkdocs: pip install "tokenrank[docs]"')
    pytest.importorskip("material", reason='no mkdocs-material: pip install "tokenrank[docs]"')
    pytest.importorskip("mkdocstrings", reason='no mkdocstrings: pip install "tokenrank[docs]"')
    folder = tmp_path_factory.mktemp("site")
    # not --quiet, which takes warnings away before --strict counts them
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # an address that nothing listens at: whoever asks the network fails at once
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9", "http_proxy": ""}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert not re.findall(r"^(?:WARNING|ERROR).*", built.stderr, re.MULTILINE)
    return folder


class _Asks(HTMLParser):
    """What a page asks for when it is opened, and where its images are."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        wanted = {"script": "src", "img": "src", "iframe": "src", "link": "href"}.get(tag)
        self.found += [value for name, value in attributes if name == wanted and value]


def pages(site: Path) -> Iterator[Path]:
    return (page for page in sorted(site.rglob("*.html")) if page.name != "404.html")


@pytest.mark.slow
def test_nothing_comes_from_elsewhere(site: Path) -> None:
    for page in pages(site):
        asks = _Asks()
        asks.feed(page.read_text(encoding="utf-8"))
        assert not [target for target in asks.found if re.match(r"(https?:)?//", target)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


@pytest.mark.slow
def test_names_have_anchors_and_shapes_are_no_emphasis(site: Path) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    for name in described() - {"tokenrank.samples"}:
        twice = f"{name}.{name.rpartition('.')[2]}"
        assert f'id="{name}"' in text or f'id="{twice}"' in text, name
        thing = resolve_name(name)
        if isfunction(thing):
            assert re.search(rf'doc-function">\s*<h\d id="({name}|{twice})"', text), f"{name} has no signature"
    assert "(<em>" not in text
    assert "<blockquote>" not in text


@pytest.mark.slow
def test_commands_are_those_of_the_help(site: Path) -> None:
    text = (site / "reference/commands.html").read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert f">tokenrank {name}<" in text
        for option in {option for parameter in command.params for option in parameter.opts if option.startswith("-")}:
            assert f"<code>{option}</code>" in text, (name, option)


@pytest.mark.slow
def test_files_of_the_repository_are_pages_or_paths(site: Path) -> None:
    assert 'href="bundled/texts.html"' in (site / "text.html").read_text(encoding="utf-8")
    for name in ("changelog", "contributing", "bundled/pictures"):
        assert (site / f"{name}.html").exists()
    assert not (site / "hooks").exists()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), list(zip((PHONE, DESK), SCHEMES, strict=True)))
def test_every_page_opens_from_a_file(site: Path, browser: Browser, width: int, scheme: str) -> None:
    shown = browser.open(site / "index.html", width, scheme=scheme)
    for page in pages(site):
        shown.page.goto(page.as_uri(), wait_until="load")
        try:
            shown.check()
        except AssertionError as error:
            raise AssertionError(f"{page.relative_to(site)} at {width}, {scheme}: {error}") from None


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_search_finds_lambda2_without_a_server(site: Path, browser: Browser, width: int, scheme: str) -> None:
    shown = browser.open(site / "index.html", width, scheme=scheme)
    if width == PHONE:
        shown.page.locator("label.md-header__button[for=__search]").click()
    else:
        shown.page.locator(".md-search__input").click()
    for words in ("lambda2", "λ2"):
        shown.page.locator(".md-search__input").fill("")
        shown.page.locator(".md-search-result__link").first.wait_for(state="detached")
        shown.page.locator(".md-search__input").press_sequentially(words)
        shown.page.locator(".md-search-result__link").first.wait_for()
        links = shown.page.locator(".md-search-result__link").evaluate_all("found => found.map(link => link.href)")
        assert any("concepts/lambda2" in link for link in links), (words, links)
    shown.check()
