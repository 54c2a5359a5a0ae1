"""Pages of the documentation: their Python runs, their commands exist, the names and files in them are there."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

import tokenrank as tr
from tests import pages
from tests.audio.speech import save_whisper, tone
from tests.tiny import save_bert
from tokenrank.cli import app
from tokenrank.evaluate.protocols import find

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
ALL_PAGES = [*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "training/README.md"))]
ALL_PAGES += sorted((ROOT / "src/tokenrank/models/bundled").glob("*/README.md"))
SOURCES = [file for room in ("src", "tests", "benchmarks", "training") for file in (ROOT / room).rglob("*.py")]
SLOW = {
    "README.md", "docs/capture.md", "docs/first-minute.md", "docs/tasks.md", "docs/howto/own-data.md",
    "docs/howto/own-method.md",
}  # fmt: skip
METHODS = tuple(tr.baselines.methods())
MOST_NOT_RUN = 14  # most of them the line for real weights, beside a model that runs; one starts a cluster

WAYS_IN = ("from_attentions", "from_cache", "from_query_key", "load_trace")

NEXT = re.compile(r"""(?:&&|;)(?=(?:[^'"]|'[^']*'|"[^"]*")*$)""")
"""Between two commands of a line, outside of quotes."""


def commands(page: Path) -> Iterator[list[str]]:
    """Commands on a page, in fences and between the words, as their arguments."""
    text = page.read_text(encoding="utf-8")
    lines = [line for step in pages.steps(page) if step.language != "python" for line in pages.lines(step)]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", pages.FENCE.sub("", text))]
    for line in lines:
        for part in NEXT.split(line):
            if re.match(r"\s*(\S*/)?(python|tokenrank) ", part):
                yield shlex.split(part)


def denoiser_and_language_model(folder: Path) -> dict[str, Any]:
    """What docs/capture.md calls ``pipe``, ``prompt``, ``language_model`` and ``tokenizer``, tiny and untrained."""
    pytest.importorskip("diffusers")
    import transformers as hf

    from tests.conformance import diffusers_models
    from tests.diffusion import pipelines

    (folder / "pipe").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(diffusers_models.SD3, "num_layers", 9)
        pipe = pipelines.stable_diffusion_3(folder / "pipe")
    tokenizer = hf.AutoTokenizer.from_pretrained(
        save_bert(folder / "bert"), model_input_names=["input_ids", "attention_mask"]
    )
    sizes = {"hidden_size": 32, "num_hidden_layers": 9, "num_attention_heads": 4, "intermediate_size": 48}
    config = hf.LlamaConfig(vocab_size=len(tokenizer), **sizes)
    language_model = hf.LlamaForCausalLM(config).eval()
    return {"pipe": pipe, "prompt": pipelines.PROMPT, "language_model": language_model, "tokenizer": tokenizer}


def bert_and_tensors(folder: Path) -> dict[str, Any]:
    """What docs/interchange.md calls ``model``, ``inputs``, ``q`` and ``k``."""
    from transformers import BertModel

    model = BertModel.from_pretrained(save_bert(folder / "bert"), attn_implementation="eager").eval()
    q, k = torch.randn(2, 1, 2, 6, 4)
    return {"model": model, "inputs": {"input_ids": torch.randint(5, 14, (1, 6))}, "q": q, "k": k}


def speech_model(folder: Path) -> dict[str, Any]:
    """What docs/audio.md calls ``model``."""
    return {"model": tr.load(save_whisper(folder))}


def small_flux(folder: Path) -> dict[str, Any]:
    """What docs/howto/concepts.md calls ``folder``: the trained pipeline of the repository."""
    pytest.importorskip("diffusers")
    model = ROOT / "training" / "text_to_image" / "model"
    if not model.is_dir():
        pytest.skip("training/text_to_image/model is not there")
    return {"folder": model}


NAMES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "docs/audio.md": speech_model,
    "docs/capture.md": denoiser_and_language_model,
    "docs/howto/concepts.md": small_flux,
    "docs/interchange.md": bert_and_tensors,
}
"""Names that a page has from its words; a page that is not here runs from zero."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def marked(page: Path) -> Any:
    return pytest.param(page, marks=[pytest.mark.slow] if name_of(page) in SLOW else [], id=name_of(page))


@pytest.mark.parametrize("page", [marked(page) for page in PAGES if pages.steps(page)])
def test_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python in one namespace and commands, in a folder that holds ``cat.jpg`` and ``speech.wav``; README in none.

    The small FLUX, which is no part of the package, is where a clone of the repository has it.
    """
    if "training/text_to_image/model" in page.read_text(encoding="utf-8"):
        (tmp_path / "training").symlink_to(ROOT / "training")
    text = "" if page == README else page.read_text(encoding="utf-8")
    if "cat.jpg" in text:
        shutil.copy(tr.samples.path("chelsea"), tmp_path / "cat.jpg")
    if "speech.wav" in text:
        pytest.importorskip("soundfile").write(tmp_path / "speech.wav", tone(1.5).numpy(), 16000)
    given = NAMES.get(name_of(page), lambda folder: {})(tmp_path_factory.mktemp("models"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # for files that the page makes
    namespace = pages.run(page, given)
    if page.name == "interchange.md":
        assert isinstance(namespace["loaded"], tr.Trace)
        assert namespace["chain"].num_tokens == 6


def test_nothing_is_given_to_the_readme() -> None:
    assert "README.md" not in NAMES


def test_few_fences_are_not_run() -> None:
    left_out = [f"{name_of(page)}:{step.line} {step.why}" for page in PAGES for step in pages.steps(page) if step.why]
    assert len(left_out) <= MOST_NOT_RUN, left_out


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_no_fence_hides(page: Path) -> None:
    """A fence in a list or a quotation would be neither run nor counted; and what is not run is Python all the same."""
    text = page.read_text(encoding="utf-8")
    assert not pages.HIDDEN.findall(text)
    for step in pages.python(page):
        compile("\n" * step.line + step.code, str(page), "exec")


def test_every_way_in_is_on_its_page() -> None:
    text = (ROOT / "docs" / "interchange.md").read_text(encoding="utf-8")
    for name in WAYS_IN:
        assert f"tr.{name}" in text


def test_every_method_is_on_its_page() -> None:
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    missing = [name for name in METHODS if f"`{name}`" not in text and name != "random"]
    assert not missing
    assert "`random_map`" in text


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_names_and_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for dotted in re.findall(r"\btr\.((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)", text):
        thing: Any = tr
        for name in dotted.removesuffix(".NAME").split("."):
            assert hasattr(thing, name), f"tr.{dotted}"
            thing = getattr(thing, name)
    for name in re.findall(r"`((?:src|tests|docs|benchmarks|training)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
    for name in set(re.findall(r"`([\w/-]+\.py)`", text)) - {"mine.py"}:
        assert any(f"/{file.as_posix()}".endswith(f"/{name}") for file in SOURCES), name


def used() -> dict[str, set[str]]:
    """Scripts and modules that the pages run → options and plans that they are given."""
    found: dict[str, set[str]] = {}
    for page in ALL_PAGES:
        for words in commands(page):
            if Path(words[0]).name == "python":
                name, rest = (f"-m {words[2]}", words[3:]) if words[1] == "-m" else (words[1], words[2:])
                options = {word for word in rest if word.startswith("--")}
                found.setdefault(name, set()).update(options | {word for word in rest[:1] if word.islower()})
    return found


USED = used()


@pytest.mark.parametrize("script", sorted(name for name in USED if not name.startswith("-m")))
def test_a_script_of_a_table_says_its_options(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(ROOT)
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(script, run_name="__main__")
    except ModuleNotFoundError as error:
        ours = {"tokenrank", *(file.stem for file in (ROOT / "benchmarks").glob("*.py"))}
        if (error.name or "").split(".")[0] in ours:
            raise
        pytest.skip(f"{script} needs {error.name}, which is not installed")
    assert end.value.code in (0, None)
    page = capsys.readouterr().out
    for word in USED[script]:
        assert word in page, f"{script} {word}"


def test_modules_of_the_pages_exist() -> None:
    for name in (name.removeprefix("-m ") for name in USED if name.startswith("-m")):
        assert importlib.util.find_spec(name), name


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_commands_have_the_options_that_they_are_given(page: Path) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for words in commands(page):
        if Path(words[0]).name != "tokenrank":
            continue
        name, *rest = words[1:]
        if name == "COMMAND":  # any
            continue
        assert name in known, words
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, words
        if "--methods" in rest:
            methods = rest[rest.index("--methods") + 1].split(",")
            ours = [method for method in methods if method.split(":")[0] != "mine"]
            assert len(find(rest[0]).methods(",".join(ours))) == len(ours)


def test_methods_of_the_tables_exist() -> None:
    """The first column of the tables of docs/evidence.md, as ``--methods`` takes it."""
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    names = dict.fromkeys(re.findall(r"^\| `([a-z_]+(?::[\w=.-]+)*)` \|", text, re.MULTILINE))
    assert len(names) > 40
    for name in names:
        protocol = "seed" if name.split(":")[0] in METHODS else "regions"
        assert find(protocol).methods(name), name
