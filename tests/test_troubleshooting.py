"""Headings of docs/troubleshooting.md are words of real messages: they stand in the source, and most are provoked."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tokenrank as tr

ROOT = Path(__file__).parents[1]
HEADING = re.compile(r"^### (?:`` ?)?`?(.+?)`?(?: ?``)?$", re.MULTILINE)
PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
HEADINGS = [heading.replace("\\`", "`") for heading in HEADING.findall(PAGE)]
GAP = "\0"  # of a message's text, where a value stands

ROWS = [[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]]
TEXT = "The cat sat on the mat"


def pattern(heading: str) -> str:
    """What a message with these words fits; … stands for anything."""
    return ".*".join(re.escape(part.strip()) for part in heading.split("…"))


def texts_of_the_source() -> str:
    """Every string of src/, with a gap where an f-string holds a value; the parts of one string in a row."""
    found = []
    for file in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(p.value) if isinstance(p, ast.Constant) else GAP for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


SOURCE = texts_of_the_source()


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_word_of_a_heading_stands_in_the_source(heading: str) -> None:
    # which names are near is said by a function of its own
    parts = [part.strip(" ;:,.()") for part in re.split("…|nearest:", heading)]
    parts = [part for part in parts if len(part) > 3]
    assert parts
    for part in parts:
        assert part in SOURCE


def test_the_page_has_the_errors_that_people_meet() -> None:
    assert len(HEADINGS) >= 30
    assert len(set(HEADINGS)) == len(HEADINGS)


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    model = tr.load()
    inputs = model.prepare(tr.samples.path("chelsea"), 64)
    with tr.capture(model) as trace:
        model.forward(inputs)
    with tr.capture(model) as twice:
        model.forward(inputs)
        model.forward(inputs)
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with tr.capture(attention) as cross:
        attention(torch.randn(1, 3, 8), torch.randn(1, 5, 8), torch.randn(1, 5, 8))
    return {"model": model, "inputs": inputs, "trace": trace, "twice": twice, "cross": cross, "words": tr.observe(TEXT)}


def captured(known: dict[str, Any], **options: Any) -> None:
    with tr.capture(known["model"], **options):
        known["model"].forward(known["inputs"])


def nothing(known: dict[str, Any]) -> None:
    module = torch.nn.Linear(3, 3)
    with tr.capture(module):
        module(torch.zeros(1, 3))


def damaged(known: dict[str, Any]) -> None:
    Path("trace.safetensors").write_bytes(b"abc")
    tr.load_trace("trace.safetensors")


def large(known: dict[str, Any]) -> None:
    np.savez_compressed("trace.npz", weights=np.full((1, 64, 64), 1 / 64))
    with tr.reading_budget(1000):
        tr.load_trace("trace.npz")


def image_chain() -> tr.AttentionChain:
    return tr.AttentionChain(ROWS, tr.TokenLayout.image(1, 3, cls_tokens=0))


def causal() -> tr.AttentionChain:
    return tr.AttentionChain([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])


PROVOKED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no file …; if it is a text": lambda known: tr.observe("cat"),
    "no file …; in its folder": lambda known: (Path("cat.jpg").touch(), tr.observe("kat.jpg")),
    "… is an address": lambda known: tr.observe("https://example.org/cat.jpg"),
    "the source is a sound": lambda known: tr.observe("speech.wav"),
    "inputs= go with": lambda known: tr.observe("cat.jpg", inputs=torch.zeros(3)),
    "… beside …": lambda known: tr.observe(known["trace"], size=224),
    "no option …": lambda known: tr.observe("cat.jpg", siez=224),
    "the source has shape": lambda known: tr.observe(torch.zeros(2, 3, 8, 8)),
    "… holds floats": lambda known: tr.observe(np.full((32, 32, 3), 200.0)),
    "model … is not on": lambda known: tr.load("no-one/nothing"),
    "model is a …": lambda known: tr.observe("cat.jpg", model=torch.nn.Linear(3, 3)),
    "… cannot be imported": lambda known: tr.errors.require("no_such_module_as_this", "timm"),
    "no attention was recorded": nothing,
    "no attention matched": lambda known: captured(known, layers="encoder.*"),
    "recording stopped": lambda known: captured(known, max_bytes=1000),
    "no attention … in this trace": lambda known: known["trace"]["model.layer.99"],
    "… means …": lambda known: known["trace"]["model"],
    "… was recorded": lambda known: known["twice"]["model.layer.9"],
    "the trace holds": lambda known: tr.observe(known["twice"]),
    "the attention of …": lambda known: known["cross"][0],
    "this needs another forward": lambda known: tr.tasks.mask_tokens(tr.observe(known["trace"]), [0], ratio=[0.1]),
    "… is in train mode": lambda known: (
        tr.observe(torch.nn.TransformerEncoderLayer(8, 2, batch_first=True), inputs=torch.randn(1, 4, 8)).trace
    ),
    "the chain has": lambda known: tr.observe(tr.AttentionChain(ROWS)),
    "… needs to know": lambda known: tr.AttentionChain(ROWS).bounce(tr.at(0.5, 0.5)),
    "the layout has": lambda known: tr.AttentionChain(ROWS, tr.TokenLayout.image(2, 2)),
    "point outside": lambda known: tr.at(320, 180),
    "word … occurs": lambda known: known["words"].chain().bounce("the"),
    "row … sums to": lambda known: tr.AttentionChain([[0.5, 0.6], [0.5, 0.5]]),
    "weight … is …": lambda known: tr.AttentionChain([[float("nan"), 1.0], [0.5, 0.5]]),
    "shape …": lambda known: tr.AttentionChain(torch.full((2, 3), 1 / 3)),
    "… whole numbers": lambda known: tr.AttentionChain(ROWS).bounce([0, 0, 1]),
    "… sends no": lambda known: tr.AttentionChain([[0.0, 1.0], [0.5, 0.5]]).restrict([0]),
    "… is removed": lambda known: causal().restrict([1, 2], how="censor"),
    "… is attended to by nobody": lambda known: tr.AttentionChain([[0.0, 1.0], [0.0, 1.0]]).reverse(),
    "TokenRank did not": lambda known: tr.AttentionChain.from_qk(
        torch.full((1, 2, 8), 3.0), torch.full((1, 2, 8), 3.0)
    ).tokenrank(tol=1e-300),
    "… chains have several": lambda known: tr.AttentionChain(torch.eye(3)).tokenrank(alpha=1),
    "… hardly stands out": lambda known: tr.tasks.saliency(np.full((64, 64, 3), 128, np.uint8), model=known["model"]),
    "values have shape": lambda known: known["words"].head_chains().tokenrank().top(),
    "this map does not": lambda known: image_chain().tokenrank().overlay(),
    "this method reads": lambda known: tr.baselines.cls_row(image_chain()),
    "method … has no option": lambda known: tr.baselines.rollout(image_chain(), layr=2),
    "… no safetensors file": damaged,
    "… would take": large,
    "… these look like logits": lambda known: tr.from_attentions([torch.randn(1, 2, 3, 3)]),
}
"""Beginning of a heading → what makes its message."""


def heading_of(beginning: str) -> str:
    found = [heading for heading in HEADINGS if heading.startswith(beginning)]
    assert len(found) == 1, (beginning, found)
    return found[0]


@pytest.mark.parametrize("beginning", PROVOKED)
def test_the_message_comes(
    beginning: str, known: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(), pytest.raises((tr.errors.TokenRankError, UserWarning)) as error:  # noqa: PT012
        warnings.simplefilter("error", UserWarning)
        PROVOKED[beginning](known)
    assert re.search(pattern(heading_of(beginning)), str(error.value)), str(error.value)
