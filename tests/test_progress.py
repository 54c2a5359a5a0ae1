"""Progress: what a listener hears, and who gets a bar."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

import tokenrank as tr
from tokenrank import progress
from tokenrank.progress import doing, listening, track

Told = list[tuple[str, int, "int | None"]]


class Ear:
    """A listener that remembers, and checks that counts of the same work only grow."""

    def __init__(self) -> None:
        self.told: Told = []

    def __call__(self, words: str, done: int, total: int | None) -> None:
        self.told.append((words, done, total))

    def works(self) -> list[Told]:
        """What was told, cut where a work begins: each from 0 to its total."""
        cut: list[Told] = []
        for entry in self.told:
            if not cut or cut[-1][-1][1] == cut[-1][-1][2]:
                cut.append([])
            cut[-1].append(entry)
        for work in cut:
            done = [n for _, n, _ in work]
            assert done == sorted(done)
            assert work[-1][1] == work[-1][2]
            assert len({words for words, *_ in work}) == 1
        return cut


@pytest.fixture
def ear() -> Iterator[Ear]:
    heard = Ear()
    with listening(heard):
        yield heard


def test_a_listener_hears_every_step(ear: Ear):
    assert list(track("abc", "letters")) == ["a", "b", "c"]
    assert ear.told == [("letters", n, 3) for n in range(4)]


def test_what_is_unknown_is_none(ear: Ear):
    assert list(track(iter("ab"), "letters")) == ["a", "b"]
    assert [total for *_, total in ear.told] == [None] * 3


def test_items_count_for_more_than_one_and_go_on(ear: Ear):
    list(track([[1, 2], [3]], "images", 5, counts=len, done=2))
    assert [n for _, n, _ in ear.told] == [2, 4, 5]


def test_words_may_change_on_the_way(ear: Ear):
    failed: list[int] = []
    for item in track(range(2), lambda: f"images, {len(failed)} failed"):
        failed.append(item)
    assert [words for words, *_ in ear.told] == [f"images, {n} failed" for n in range(3)]


def test_what_is_inside_is_part_of_it(ear: Ear):
    for _ in track(range(2), "outer"):
        assert list(track("ab", "inner")) == ["a", "b"]
        with doing("a step"):
            pass
    list(track("ab", "after"))
    assert [work[0][0] for work in ear.works()] == ["outer", "after"]


def test_a_step_is_told_before_and_after(ear: Ear):
    with doing("loading"):
        assert ear.told == [("loading", 0, 1)]
    assert ear.told[-1] == ("loading", 1, 1)


def test_work_that_ends_early_hides_nothing_later(ear: Ear):
    for _ in track(range(5), "left"):
        break
    with pytest.raises(KeyError), doing("broken"):
        raise KeyError
    list(track(range(1), "later"))
    assert ear.told[-2:] == [("later", 0, 1), ("later", 1, 1)]
    assert ("broken", 1, 1) not in ear.told  # it was not done


def test_a_thread_hears_nothing_of_others(ear: Ear):
    own, inside = Ear(), threading.Event()

    def elsewhere() -> None:
        list(track("ab", "unheard"))
        with listening(own):
            inside.wait(10)
            list(track("ab", "own"))

    thread = threading.Thread(target=elsewhere)
    for place in track(range(2), "here"):
        if place == 0:
            thread.start()
            inside.set()
            thread.join()
    assert {words for words, *_ in ear.told} == {"here"}
    assert {words for words, *_ in own.told} == {"own"}
    assert own.told[-1][1:] == (2, 2)


def test_listeners_are_stacked(ear: Ear):
    other = Ear()
    with listening(other):
        list(track("a", "inner"))
    list(track("a", "outer"))
    assert {words for words, *_ in other.told} == {"inner"}
    assert {words for words, *_ in ear.told} == {"outer"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(progress, "DELAY", 0)
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    for _ in track(range(3), "letters"):
        time.sleep(0.15)  # a bar is drawn ten times a second
    assert "letters: 100%" in screen.getvalue()
    assert screen.getvalue().endswith("\r")
    assert capsys.readouterr().out == ""
    before = screen.getvalue()
    monkeypatch.setenv("TOKENRANK_PROGRESS", "0")
    list(track(range(3), "letters"))
    with listening(lambda *told: None):
        list(track(range(3), "letters"))
    assert screen.getvalue() == before


def test_quick_work_is_not_announced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    list(track(range(3), "letters"))
    assert "letters" not in screen.getvalue()


@pytest.mark.parametrize("stream", [None, object(), io.StringIO()], ids=["none", "no stream", "replaced"])
def test_any_stderr_will_do(stream: object, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(track("ab", "letters")) == ["a", "b"]


def test_a_plain_script_prints_nothing():
    program = "from tokenrank import progress; progress.DELAY = 0; list(progress.track(range(3), 'letters'))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")


SIZE = 64


@pytest.fixture(scope="module")
def model() -> tr.Model:
    return tr.load()


@pytest.fixture
def observation(model: tr.Model) -> tr.Observation:
    return tr.observe(tr.samples.path("chelsea"), model, size=SIZE)


def heads(count: int, tokens: int) -> tr.AttentionChain:
    q, k = torch.randn(2, count, tokens, 8, generator=torch.Generator().manual_seed(0))
    return tr.AttentionChain.from_qk(q, k)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda chain: chain.tokenrank(), "TokenRank of heads"),
        (lambda chain: chain.tokenrank(1.0), "TokenRank of heads"),
        (lambda chain: chain.lambda2(), "|λ2| of heads"),
        (lambda chain: chain.lambda2(proved=False), "|λ2| of heads"),
        (lambda chain: chain.spectrum(3), "spectrum of heads"),
        (lambda chain: chain.kemeny(), "Kemeny's constant of heads"),
        (lambda chain: chain.hitting_times(0), "ends of walks of heads"),
        (lambda chain: chain.mean_first_passage([0]), "passage times of heads"),
        (lambda chain: chain.mixing_time(), "mixing time of heads"),
        (lambda chain: chain.dobrushin(), "Dobrushin's coefficient of heads"),
        (lambda chain: chain.metastable(largest=3), "metastable states, numbers tried"),
    ],
)
@pytest.mark.parametrize("tokens", [24, 140])
def test_many_heads_are_counted(tokens: int, ask: Callable[[tr.AttentionChain], object], words: str, ear: Ear):
    ask(heads(3, tokens))
    works = {work[0][0]: work[-1] for work in ear.works()}
    assert words in works
    assert words.startswith("metastable") or works[words][2] == 3


def test_a_single_chain_is_not_counted(ear: Ear):
    heads(1, 24)[0].tokenrank()
    assert ear.told == []


def test_long_tasks_tell_every_stage(observation: tr.Observation, ear: Ear):
    tr.tasks.saliency(observation)
    assert [work[0][0] for work in ear.works()] == [
        "running the model",
        "TokenRank of layers",
        "backward TokenRank of layers",
        "running the model for its block outputs",
        "steps along the features",
        "running the model",
        "strength of what was found",
    ]
    ear.told.clear()
    tr.tasks.segment(observation, [tr.at(0.4, 0.6), tr.at(0.1, 0.1)])
    assert ear.works()[0][-1] == ("walks from starts", 2, 2)
    ear.told.clear()
    with pytest.warns(tr.errors.NothingThereWarning):
        tr.tasks.cluster(observation, how="metastable", layer=[4, 5])
    assert [work[0][0] for work in ear.works()] == [
        "chains of layers",
        "metastable states, numbers tried",
        "strength of what was found",
    ]
    ear.told.clear()
    tr.tasks.mask_tokens(observation, range(40), [0, 0.25, 0.5], batch=1)
    assert ear.works()[-1][-1] == ("masked pictures", 3, 3)


def test_border_and_flow_are_counted(observation: tr.Observation, ear: Ear):
    tr.tasks.saliency(observation, how="border")
    tr.baselines.attention_flow(observation)
    told = {work[0][0] for work in ear.works()}
    assert {"|λ2| of layers", "bounces to the border, layers", "layers of the flow"} <= told


def test_loading_is_told(ear: Ear):
    tr.load()
    assert ear.told == [("loading the model", 0, 1), ("loading the model", 1, 1)]
