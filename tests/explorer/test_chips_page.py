"""Chips, α, what is left out, and the steps of a denoiser, driven in a browser and held against the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import torch

import tokenrank as tr
from tests.browser import SCHEMES, Browser, Shown
from tests.explorer import nodes
from tokenrank import samples

WORDS = ["a", "photograph", "of", "a", "sky", "##scraper", "<pad>", "<pad>", "<pad>"]
ALPHA = 0.99


def test_which_tokens_are_chips() -> None:
    nodes.run("chips.test.js")


def state(shown: Shown) -> dict[str, str]:
    """What the link says, which is what differs from the defaults."""
    return {name: values[-1] for name, values in parse_qs(shown.page.url.partition("#")[2]).items()}


def starts(shown: Shown) -> list[int]:
    """Tokens that the link starts from; runs of them may be written as 4-6."""
    runs = [run.split("-") for run in state(shown)["starts"].split(",")]
    return [token for run in runs for token in range(int(run[0]), int(run[-1]) + 1)]


def chip(shown: Shown, name: str) -> Any:
    return shown.page.get_by_role("toolbar", name="Tokens outside the picture").get_by_role("button", name=name)


def share(shown: Shown, name: str) -> float:
    """What a chip says that its tokens hold."""
    words = str(chip(shown, name).first.locator("span").text_content())
    return float(words.removesuffix(" %")) / 100


def settled(shown: Shown) -> None:
    shown.page.wait_for_timeout(400)


@pytest.fixture(scope="module")
def picture() -> Any:
    return tr.observe(samples.path("astronaut"), size=112)


@pytest.fixture(scope="module")
def picture_page(picture: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chips") / "picture.html"
    picture.explore(layers=[-1]).save(path)
    return path


@pytest.fixture(scope="module")
def traced() -> tuple[tr.Trace, Any]:
    pytest.importorskip("diffusers")
    from tests.diffusion import pipelines

    torch.manual_seed(0)
    asked = {"prompt_embeds": 3 * torch.randn(1, len(WORDS), 16), "pooled_prompt_embeds": torch.randn(1, 16)}
    pipe = pipelines.flux()
    for name, weight in pipe.transformer.named_parameters():
        if "norm_q.weight" in name:
            weight.data *= 4  # attention that is not even
    with tr.capture(pipe) as trace:
        made = pipe(**asked, width=48, height=32, num_inference_steps=3).images[0]
    return trace, made


@pytest.fixture(scope="module")
def denoiser_page(traced: tuple[tr.Trace, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chips") / "flux.html"
    tr.explore(traced[0], image=traced[1], text=WORDS).save(path)
    return path


@pytest.mark.browser
def test_cls_is_a_chip_with_its_mass(browser: Browser, picture: Any, picture_page: Path) -> None:
    shown = browser.open(picture_page)
    chip(shown, "CLS").wait_for()
    settled(shown)
    chain = picture.chain(-1, "lambda2", tokens="all").teleport(ALPHA)
    index = shown.page.evaluate("() => JSON.parse(document.getElementById('index').textContent)")
    first = float(chain.bounce(index["sheets"][0]["start"], 2).values[0])
    assert share(shown, "CLS") == pytest.approx(first, rel=0.06)

    assert chip(shown, "CLS").get_attribute("aria-pressed") == "false"
    chip(shown, "CLS").click()
    settled(shown)
    assert starts(shown) == [0]
    assert chip(shown, "CLS").get_attribute("aria-pressed") == "true"
    assert share(shown, "CLS") == pytest.approx(float(chain.bounce(0, 2).values[0]), rel=0.06)
    shown.check()


@pytest.mark.browser
def test_special_tokens_are_left_out(browser: Browser, picture_page: Path) -> None:
    shown = browser.open(picture_page)
    chip(shown, "CLS").click()
    shown.page.get_by_role("button", name="special tokens").click()
    settled(shown)
    assert chip(shown, "CLS").is_disabled()
    assert chip(shown, "CLS").text_content() == "CLS left out"
    assert state(shown).get("starts") != "0"
    shown.page.get_by_role("button", name="nothing").click()
    settled(shown)
    assert chip(shown, "CLS").is_enabled()
    shown.check()


@pytest.mark.browser
def test_alpha_reaches_one_where_python_says_that_the_limit_is_unique(browser: Browser, picture_page: Path) -> None:
    shown = browser.open(picture_page)
    alpha = shown.page.get_by_label("α")
    alpha.focus()
    assert alpha.get_attribute("aria-valuetext") == "0.99, a jump every 100 bounces"
    shown.page.keyboard.press("ArrowRight")
    settled(shown)
    assert state(shown)["alpha"] == "0.993"
    shown.page.keyboard.press("Home")
    settled(shown)
    assert state(shown)["alpha"] == "0.5"
    shown.page.keyboard.press("End")
    settled(shown)
    assert state(shown)["alpha"] == "1"
    assert alpha.get_attribute("aria-valuetext") == "1, no jumps"
    shown.page.get_by_role("button", name="special tokens").click()  # of which Python does not know it
    settled(shown)
    assert state(shown).get("alpha", "0.99") == "0.99"
    alpha.focus()
    shown.page.keyboard.press("End")
    settled(shown)
    assert state(shown)["alpha"] == "0.999"
    assert shown.page.get_by_text("No α = 1 here: one limit is known of all heads by |λ2|").is_visible()
    shown.check()


@pytest.mark.browser
def test_a_word_is_traced_back_to_the_patches_that_attend_to_it(
    browser: Browser, denoiser_page: Path, traced: tuple[tr.Trace, Any]
) -> None:
    shown = browser.open(denoiser_page)
    chip(shown, "skyscraper").wait_for()
    names = shown.page.locator(".chips .chip bdi").all_text_contents()
    assert names == ["a", "photograph", "of", "a", "skyscraper", "<pad> × 3"]
    chip(shown, "skyscraper").click()
    settled(shown)
    assert starts(shown) == [4, 5]
    assert state(shown)["direction"] == "backward"
    assert state(shown)["bounces"] == "1"
    assert shown.page.get_by_text("what attends to", exact=False).first.is_visible()
    assert shown.page.get_by_role("button", name="Trace back").get_attribute("aria-pressed") == "true"

    layer = traced[0].select(step=-1)[-1]
    moduli = layer.lambda2(proved=False).values[0]
    chain = layer[0].aggregate(moduli / moduli.sum())
    start = torch.zeros(len(WORDS) + 96, dtype=torch.float64)
    start[4:6] = 0.5
    expected = chain.reverse().teleport(ALPHA).bounce(start, 1).values
    assert share(shown, "skyscraper") == pytest.approx(float(expected[4:6].sum()), rel=0.02)
    assert share(shown, "<pad>") == pytest.approx(float(expected[6:9].sum()), rel=0.02)

    shown.page.get_by_role("button", name="Follow attention").click()
    chip(shown, "photograph").click()  # the reader's direction stays from now on
    settled(shown)
    assert "direction" not in state(shown)
    chip(shown, "skyscraper").click(modifiers=["Shift"])
    settled(shown)
    assert starts(shown) == [1, 4, 5]
    chip(shown, "skyscraper").click(modifiers=["Shift"])
    settled(shown)
    assert starts(shown) == [1]
    shown.check()


@pytest.mark.browser
def test_chips_are_one_stop_of_the_tab_key(browser: Browser, denoiser_page: Path) -> None:
    shown = browser.open(denoiser_page)
    chip(shown, "photograph").focus()
    shown.page.keyboard.press("ArrowRight")
    settled(shown)
    names = shown.page.locator(".chips .chip")
    assert [names.nth(i).get_attribute("tabindex") for i in range(6)] == ["-1", "-1", "0", "-1", "-1", "-1"]
    shown.page.keyboard.press("Enter")
    settled(shown)
    assert starts(shown) == [2]
    shown.page.keyboard.press("End")
    shown.page.keyboard.press("Shift+Enter")
    settled(shown)
    assert starts(shown) == [2, 6, 7, 8]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", SCHEMES)
def test_start_and_bounces_stay_while_steps_go_by(browser: Browser, denoiser_page: Path, scheme: str) -> None:
    shown = browser.open(denoiser_page, width=360, scheme=scheme)
    chip(shown, "photograph").click()
    step = shown.page.get_by_role("slider", name="Step")
    assert step.get_attribute("aria-valuetext") == "step 2, timestep 0.333"
    step.focus()
    shown.page.keyboard.press("Home")
    settled(shown)
    assert step.get_attribute("aria-valuetext") == "step 0, timestep 1"
    assert state(shown)["step"] == "0"
    assert starts(shown) == [1]
    before = share(shown, "<pad>")
    shown.page.get_by_role("slider", name="Layer").focus()
    shown.page.keyboard.press("Home")
    settled(shown)
    assert state(shown)["layer"] == "0"
    assert share(shown, "<pad>") != before
    shown.page.get_by_role("button", name="Play the steps").click()
    shown.page.wait_for_function("() => !location.hash.includes('step=')", timeout=15_000)  # the last is the default
    settled(shown)
    assert starts(shown) == [1]
    shown.page.get_by_role("button", name="Play the steps").wait_for()
    shown.check()
