"""Everything there is to ask, of modules as people write them: an answer, or an error of ours that says what to do."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.own_modules import COLUMNS, IDS, OWN, PICTURE, ROWS, Convolutions, Pictures, Texts
from tokenrank.baselines import methods
from tokenrank.errors import CaptureError, InputError, LayoutError, TokenRankError
from tokenrank.tasks.saliency import SaliencyWay
from tokenrank.view import bounces_figure, lambda2_figure, map_figure, text_figure

Question = Callable[[tr.Observation], Any]

POINT = tr.at(0.5, 0.5)
BOX = (0.0, 0.0, 0.5, 0.5)


def asked(name: str, **given: Any) -> Question:
    return lambda seen: methods()[name](seen, **given)


def saliency(**given: Any) -> Question:
    return lambda seen: tr.tasks.saliency(seen, **given)


def segment(*start: Any, **given: Any) -> Question:
    return lambda seen: tr.tasks.segment(seen, *start, **given)


def cluster(**given: Any) -> Question:
    return lambda seen: tr.tasks.cluster(seen, **given)


def masked(*given: Any, **more: Any) -> Question:
    return lambda seen: tr.tasks.mask_tokens(seen, [0, 1], *given, **more)


def analysed(seen: tr.Observation, **given: Any) -> tr.analysis.Analysis:
    found = tr.analyze(seen, **given)
    shown(found)
    found.table(), found.tokens_table(), found.facts()
    return found


def shown(thing: Any) -> None:
    repr(thing)
    thing._repr_html_()


def observed(seen: tr.Observation) -> None:
    shown(seen)
    seen.layers, seen.skipped, seen.modality, seen.describe()
    shown(seen)


def looked_at(seen: tr.Observation) -> None:
    shown(seen.chain())
    rank = seen.chain().tokenrank()
    shown(rank)
    rank.figure(), rank.mask(), rank.mask(0.5), rank.top()


QUESTIONS: dict[str, Question] = {
    **{name: asked(name, **({"start": POINT} if "seed" in m.needs else {})) for name, m in methods().items()},
    **{f"{name}, class 1": asked(name, target=1) for name, m in methods().items() if "class" in m.needs},
    **{f"{name}, patch 1": asked(name, start=1) for name, m in methods().items() if "seed" in m.needs},
    **{f"saliency, {how}": saliency(how=how) for how in get_args(SaliencyWay)},
    "saliency, refined": saliency(refine="guided", component=True),
    "segment": segment(),
    "segment, CLS": segment("cls"),
    "segment, a box": segment(BOX),
    "segment, a mask": segment(np.ones((ROWS * 8, COLUMNS * 8), bool)),
    "segment, several": segment([POINT, 1]),
    "segment, a word": segment(text="cat"),
    "segment, halflife": segment(n="halflife"),
    **{f"cluster, {how}": cluster(how=how) for how in ("merge", "metastable")},
    **{f"cluster, two, {how}": cluster(how=how, k=2) for how in ("merge", "metastable")},
    "cluster, all layers": cluster(grid="tokenrank", layer="*"),
    **{f"mask_tokens, {how}": masked([0.0, 0.05], how) for how in ("keys", "remove", "pixels")},
    "mask_tokens, read": masked(0.05, read=lambda output: output),
    "mask_pixels": lambda seen: tr.tasks.mask_pixels(seen, torch.rand(ROWS * 8, COLUMNS * 8), 0.1),
    "removal_order": lambda seen: tr.tasks.removal_order(tr.baselines.column_sum(seen)),
    "attention_gradients": tr.baselines.attention_gradients,
    "attention_relevance": tr.baselines.attention_relevance,
    "analyze": analysed,
    "analyze, all tokens": lambda seen: analysed(seen, tokens="all"),
    "analyze, a point": lambda seen: analysed(seen, start=POINT),
    "lambda2_figure": lambda seen: lambda2_figure(tr.analyze(seen)),
    "bounces_figure": lambda seen: bounces_figure(tr.analyze(seen)),
    "text_figure": lambda seen: text_figure(tr.analyze(seen)),
    "map_figure": lambda seen: map_figure(tr.baselines.column_sum(seen)),
    "overlay": lambda seen: seen.chain().tokenrank().overlay(),
    "observe": observed,
    "chain": looked_at,
    "size": lambda seen: seen.size,
    "layout": lambda seen: seen.layout,
    "features": lambda seen: seen.features(),
    "output": lambda seen: seen.output,
}

OFTEN = (
    "torchvision, another head",
    "by hand, no CLS",
    "einsum, CLS",
    "a text",
    "no attention",
    "linear attention",
    "patches that shrink",
    "a head that does not fit",
    "answers nothing, its head said",
    "inputs that are a number",
    "a picture of the wrong channels",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.slow]) for name in OWN]
)
def test_an_answer_or_a_sentence(name: str) -> None:
    """No AttributeError, KeyError, TypeError, …: what cannot be answered is refused by an error of ours."""
    pytest.importorskip("torchvision")
    own = OWN[name]
    wrong = []
    try:
        seen = tr.observe(own.made(), inputs=own.inputs, **own.reading)
    except TokenRankError as error:
        assert len(str(error).split()) >= 6  # noqa: PT017
        return
    for question, ask in QUESTIONS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ask(seen)
        except TokenRankError as error:
            if len(str(error).split()) < 6:
                wrong.append(f"{question}: {error!r} says too little")
        except Exception as error:
            wrong.append(f"{question}: {error!r}")
    assert not wrong


def answered(name: str) -> set[str]:
    own, found = OWN[name], set()
    seen = tr.observe(own.made(), inputs=own.inputs, **own.reading)
    for question, ask in QUESTIONS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ask(seen)
        except TokenRankError:
            continue
        found.add(question)
    return found


def test_a_module_by_hand_is_asked_all_that_needs_no_class_and_no_cls() -> None:
    """Not refused to be on the safe side."""
    refused = {name for name, method in methods().items() if "class" in method.needs}
    refused |= {"cls_row", "dino_mass", "cls_bounce"}
    assert answered("by hand, no CLS") >= {*methods()} - refused
    assert answered("by hand, its head said") >= {*methods()}
    assert answered("a text") == {
        "observe", "output", "chain", "features", "analyze", "analyze, all tokens", "lambda2_figure"
    }  # fmt: skip


def test_rollout_of_a_module_by_hand() -> None:
    own = OWN["by hand, no CLS"]
    module = own.made()
    with torch.no_grad(), tr.capture(module) as trace:
        module(PICTURE)
    walked = torch.eye(ROWS * COLUMNS, dtype=torch.float64)
    for record in trace.records:
        walked = (torch.eye(len(walked)) + trace.chain_of(record).to_dense()[0].double().mean(0)) / 2 @ walked
    found = tr.baselines.rollout(module, inputs=PICTURE).values
    assert (found - walked.mean(0)).abs().max() < 1e-6
    assert (tr.baselines.rollout(module, inputs=PICTURE, start=3).values - walked[3]).abs().max() < 1e-6


@pytest.mark.parametrize("ask", [tr.tasks.saliency, tr.baselines.rollout, tr.analyze, tr.tasks.segment])
def test_what_is_missing_is_said(ask: Callable[..., Any]) -> None:
    with pytest.raises(CaptureError, match=r"no attention was recorded of Convolutions: .*no softmax attention"):
        ask(Convolutions(), inputs=PICTURE)
    with pytest.raises(CaptureError, match="linear attention and compiled extensions have none"):
        ask(Pictures("linear"), inputs=PICTURE)
    with pytest.raises(InputError, match=r"Pictures was given no inputs; tr\.observe\(module, inputs="):
        ask(Pictures())
    if ask is not tr.analyze:
        with pytest.raises(LayoutError, match=r"picture|patches"):
            ask(Texts(), inputs=IDS)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (3, "inputs of Pictures are a int, expected a mapping of names"),
        ("a cat", r"inputs of Pictures are a str, .*tr\.observe\(source, model=…\)"),
        ({"pixel_values": PICTURE}, r"cannot run on its inputs \(pixel_values \(1, 3, 32, 40\) float32\): TypeError: "),
        (torch.zeros(1, 4, 8, 8), r"\(x \(1, 4, 8, 8\) float32\): RuntimeError: .*what module\(\*\*inputs\) takes"),
        (PICTURE.to(torch.uint8), "uint8"),
    ],
)
def test_inputs_that_do_not_fit(inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tr.baselines.rollout(Pictures(), inputs=inputs)


def test_the_modules_own_error_is_the_cause() -> None:
    class Broken(Pictures):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("no such thing")

    with pytest.raises(InputError, match="KeyError: 'no such thing'") as raised:
        tr.tasks.saliency(Broken(), inputs=PICTURE)
    assert isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("answer", "head", "message"),
    [
        ("dict", lambda output: output.logits, "does not fit what the module returned, a dict of 'scores': Attribute"),
        ("list", lambda output: output, "returned a list; head= is a function of the module's output"),
        ("nothing", lambda output: output, "returned nothing; head="),
        ("tensor", lambda output: output[0], r"returned a tensor of shape \(3,\)"),
    ],
)
def test_a_head_that_does_not_fit(answer: str, head: Callable[[Any], Tensor], message: str) -> None:
    model = tr.Model("mine", Pictures(answer=answer).eval(), "image", head=head)
    for ask in (tr.baselines.grad_cam, lambda source, **given: tr.tasks.mask_tokens(source, [0], 0.05, **given)):
        with pytest.raises(InputError, match=message):
            ask(model, inputs=PICTURE)


def test_a_layout_said_by_hand_is_kept_for_masking() -> None:
    own = OWN["patches cut by hand, layout said"]
    found = tr.tasks.mask_tokens(own.made(), [0, 1], [0.0, 0.1], inputs=own.inputs, **own.reading)
    assert found.shape == (2, 1, 3)
    assert not torch.equal(found[0], found[1])


def test_a_map_lies_on_the_grid_of_its_layer() -> None:
    seen = tr.observe(OWN["patches that shrink"].made(), inputs=PICTURE)
    first, last = seen.layers
    for ask in (tr.baselines.tokencut, tr.baselines.lost, tr.baselines.deep_spectral):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert ask(seen, layer=first, centre=True).grid().shape == (4, 5)
            found = ask(seen, layer=last, centre=True)
        assert found.grid().shape == found.foreground.shape == (2, 2)


def test_a_picture_beside_the_inputs_is_shown(tmp_path: Path) -> None:
    seen = tr.observe(OWN["by hand, no CLS"].made(), inputs=PICTURE, image=np.zeros((64, 80, 3), np.uint8))
    bounces_figure(tr.analyze(seen)).savefig(tmp_path / "a.png")
    assert seen.chain().tokenrank().overlay().size == (80, 64)
