"""Results in a notebook: every one shows itself, on any theme, without markup of others, without running anything."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from PIL import Image

import tokenrank as tr

SENTENCE = "The cat sat on the mat because it was tired."


@pytest.fixture(scope="module")
def observation() -> tr.Observation:
    return tr.observe(tr.samples.path("chelsea"), size=64)


@pytest.fixture(scope="module")
def sentence() -> tr.Observation:
    return tr.observe(SENTENCE)


ANSWERS: dict[str, Callable[[tr.AttentionChain], Any]] = {
    "bounce": lambda c: c.bounce(tr.at(0.4, 0.6), 2),
    "tokenrank": lambda c: c.tokenrank(),
    "lambda2": lambda c: c.lambda2(),
    "spectrum": lambda c: c.spectrum(4),
    "half life": lambda c: c.half_life(0),
    "metastable": lambda c: c.metastable(2),
    "kemeny": lambda c: c.kemeny(),
    "entropy rate": lambda c: c.entropy_rate(),
    "mixing time": lambda c: c.mixing_time(),
    "dobrushin": lambda c: c.dobrushin(),
    "classes": lambda c: c.classes(),
    "stationary": lambda c: c.stationary_distributions(),
    "sinks": lambda c: c.sinks(),
    "absorption": lambda c: c.absorption([0, 5]),
    "hitting times": lambda c: c.hitting_times(0),
    "first passage": lambda c: c.mean_first_passage([0]),
    "quasi-stationary": lambda c: c.quasi_stationary([0]),
}


@pytest.mark.parametrize("heads", ["lambda2", "each"])
@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_says_what_it_is_of_and_worth(name: str, heads: str, observation: tr.Observation):
    chain = observation.head_chains(3) if heads == "each" else observation.chain(3)
    found = ANSWERS[name](chain)
    told = f"layer 3 of 0–11 (model.layer.3.attention), heads {heads}, tokens image"
    assert told in repr(found)
    assert len(repr(found)) < 400
    page = found._repr_html_()
    assert told in page
    assert len(page) < 300_000
    assert found.worth_words().split(",")[0] in page
    check(page)


class Checker(HTMLParser):
    """Well-formed; no colours that a theme might swallow, no scripts, no style sheets, nothing from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"div", "b", "span", "table", "tr", "td", "th", "figure", "figcaption", "img", "small"}
        given = dict(attrs)
        assert set(given) <= {"style", "alt", "src"}
        assert (given.get("src") or "data:image/").startswith("data:image/")
        style = given.get("style") or ""
        assert not re.search(r"(^|;)color:(?!rgb)", style)  # but for the squares of a legend
        assert "url(" not in style
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open


def test_other_results_are_well_formed(observation: tr.Observation, sentence: tr.Observation):
    cross = tr.CrossAttention(torch.rand(3, 4, 9).softmax(-1), tr.TokenLayout.text(["a", "<b>", "c", "d"]))
    shown = [
        observation, observation.chain(), observation.model, observation.trace, observation.layout, cross,
        tr.analyze(observation), tr.tasks.segment(observation, tr.at(0.5, 0.5)), sentence.chain().tokenrank(),
        sentence.head_chains().tokenrank(), sentence.chain(tokens="all").sinks(), tr.analyze(sentence),
        tr.Sound(torch.rand(1000), 1000), tr.observe(SENTENCE), observation.features_chain(),
    ]  # fmt: skip
    for thing in shown:
        page = thing._repr_html_()
        check(page)
        assert 100 < len(page) < 300_000


def test_showing_runs_nothing(observation: tr.Observation, monkeypatch: pytest.MonkeyPatch):
    """Neither the model nor a solver: what is not computed says so."""
    fresh = tr.observe(tr.samples.path("chelsea"), observation.model, size=64)
    chain = observation.head_chains(5)
    kept = len(observation._kept)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a notebook asked for work")

    monkeypatch.setattr(type(fresh.model), "forward", refuse)
    for name in ("matmul", "rmatmul", "to_dense"):
        monkeypatch.setattr(type(chain.operator), name, refuse)
    assert "not run yet" in fresh._repr_html_()
    for thing in (fresh, observation, chain, fresh.model):
        thing._repr_html_()
        repr(thing)
    assert len(observation._kept) == kept


def test_sinks_of_a_text_are_framed_and_leave_the_scale_to_the_others():
    values = torch.tensor([0.9, 0.01, 0.03, 0.06])
    page = tr.TokenMap(values, tr.TokenLayout.text(["BOS", "a", "b", "c"]))._repr_html_()
    assert "dashed" in page
    assert "0.9<" in page
    assert "1 sink framed and left out of the scale" in page
    assert "dashed" not in tr.TokenMap(torch.full((4,), 0.25), tr.TokenLayout.text(list("abcd")))._repr_html_()


def test_figures_show_themselves_without_pyplot(observation: tr.Observation):

    for figure in (tr.view.lambda2_figure(tr.analyze(observation)), observation.chain().tokenrank().figure()):
        data, told = figure._repr_mimebundle_()
        ((kind, content),) = data.items()
        drawn = Image.open(io.BytesIO(content))
        assert kind == f"image/{drawn.format.lower()}"
        assert drawn.width == pytest.approx(1.8 * told[kind]["width"], rel=0.01)


# ---- words that were missing


def test_a_half_life_at_its_limit_is_a_limit():
    stuck = tr.AttentionChain(torch.eye(3, dtype=torch.float64).expand(2, 3, 3))
    found = stuck.half_life(0, limit=4)
    assert "NOT converged" not in repr(found)
    assert "half not forgotten within the limit of 4 for 2 of 2" in repr(found)
    assert "4 bounces" in repr(found)
    assert not bool(found.certificate.converged.any())


def test_bounds_of_a_mixing_time_are_bounds():
    q, k = 2 * torch.randn(2, 600, 8, generator=torch.Generator().manual_seed(0))  # more tokens than are squared
    found = tr.AttentionChain.from_qk(q, k).mixing_time()
    assert not bool(found.certificate.converged)
    assert "bounds only" in repr(found)
    assert "NOT converged" not in found._repr_html_()


def test_classes_tell_how_many_are_recurrent():
    weights = torch.tensor([[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    found = tr.AttentionChain(weights).classes()
    assert "3 classes, 2 recurrent" in repr(found)
    assert "no, yes, yes" in found._repr_html_()


def test_sinks_are_counted():
    weights = torch.tensor([[0.8, 0.1, 0.1]] * 3, dtype=torch.float64)
    assert "1 sink with 0.8 of all attention" in repr(tr.AttentionChain(weights).sinks())


def test_a_joint_layout_is_told_in_a_line():
    frames = tr.AttentionChain(torch.full((125, 125), 1 / 125), tr.TokenLayout.audio(125, 0.02))
    words = tr.CrossAttention(torch.full((125, 2), 0.5), None, tr.TokenLayout.text(["a", "cat"]))
    layout = tr.bipartite(frames, words).layout
    assert layout is not None
    assert str(layout) == "audio 125, text 2"
    assert len(repr(layout)) < 250
    page = layout._repr_html_()
    assert "0 to 2.5 s, 0.02 s each" in page
    assert "a cat" in page


# ---- pickles


@pytest.mark.parametrize("kind", ["image", "text"])
def test_bundled_models_can_be_pickled(kind: Any):
    model = tr.load(kind=kind)
    again = pickle.loads(pickle.dumps(model))
    inputs = model.prepare(tr.samples.path("chelsea") if kind == "image" else SENTENCE)
    with torch.no_grad():
        assert torch.equal(again.module(**inputs).last_hidden_state, model.module(**inputs).last_hidden_state)
        if kind == "image":
            assert torch.equal(again.logits(inputs), model.logits(inputs))


def test_an_observation_can_be_pickled(observation: tr.Observation, sentence: tr.Observation):
    fresh = tr.observe(tr.samples.path("chelsea"), observation.model, size=64)
    captured = tr.observe(observation.trace)
    for seen in (observation, sentence, fresh, captured):
        before = seen.chain().tokenrank().values
        again = pickle.loads(pickle.dumps(seen))
        assert torch.equal(again.chain().tokenrank().values, before)
        assert again.can_run == seen.can_run


def test_chains_and_answers_can_be_pickled(observation: tr.Observation):
    heads = observation.head_chains(3)
    heads.tokenrank(direction="backward")  # which keeps a chain that was turned round
    for thing in (heads, observation.chain(3), heads.tokenrank(), heads.spectrum(2), observation.trace):
        again = pickle.loads(pickle.dumps(thing))
        assert repr(again) == repr(thing)
    assert torch.equal(pickle.loads(pickle.dumps(heads)).to_dense(), heads.to_dense())


def test_a_chain_turned_round_says_why_it_cannot(observation: tr.Observation):
    with pytest.raises(tr.errors.ChainError, match="pickle the chain as it was before"):
        pickle.dumps(observation.head_chains(3).reverse())


def test_what_holds_tensors_says_itself_in_a_line(observation: tr.Observation):
    """Certificates, records and checks of layouts have no page of their own; a notebook prints their repr."""
    certificate = observation.chain(3).tokenrank().certificate
    assert repr(certificate) == f"Certificate({certificate})"

    model = tr.load()
    inputs = model.prepare(tr.samples.path("chelsea"), size=64)
    with tr.capture(model, layers=[3]) as trace:
        model.forward(inputs)
    seen = repr(trace.records[0])
    assert seen.startswith("AttentionRecord(model.layer.3.attention, ")
    assert "1×6×45×45" in seen
    check = tr.check_layout(model, inputs)
    assert repr(check) == str(check)
    assert repr(check.layers[0]) == str(check.layers[0])


@pytest.mark.parametrize("method", ["tokencut", "lost", "deep_spectral"])
def test_a_method_that_chose_its_layer_says_which(method: str, observation: tr.Observation):
    told = getattr(tr.baselines, method)(observation).caption
    assert "None" not in told
    assert re.search(r"layer \d+ of 0–11 \(model\.layer\.\d+\.attention\)", told), told
