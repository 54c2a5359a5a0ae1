from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from tests.tiny import SENTENCE, save_albert, save_bert, save_gpt2, save_processor, save_vit
from tokenrank import at
from tokenrank.analysis import Analysis, analyze
from tokenrank.errors import InputError, LayoutError, NotFoundError
from tokenrank.models import Model, load
from tokenrank.progress import listening
from tokenrank.trace import capture


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(save_vit(tmp_path_factory.mktemp("vit")))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(save_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def picture() -> PIL.Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


@pytest.fixture(scope="module")
def found(vit: Model, picture: PIL.Image.Image) -> Analysis:
    return analyze(picture, model=vit, start=at(0.9, 0.1))


def dense_layers(vit: Model, picture: PIL.Image.Image) -> torch.Tensor:
    """Attention between patches, rows renormalised: (layers, heads, N, N) in float64."""
    with capture(vit) as trace:
        vit.forward(vit.prepare(picture))
    full = torch.stack([trace[i].to_dense()[0] for i in range(3)]).double()
    patches = full[..., 3:, 3:]
    return patches / patches.sum(-1, keepdim=True)


def test_numbers_are_those_of_dense_algebra(vit: Model, picture: PIL.Image.Image, found: Analysis):
    layers = dense_layers(vit, picture)
    moduli = torch.linalg.eigvals(layers).abs().sort(-1).values[..., -2]
    torch.testing.assert_close(found.lambda2.values.double(), moduli, atol=1e-4, rtol=0)

    weights = moduli[found.layer_index] / moduli[found.layer_index].sum()
    chain = torch.einsum("h,hij->ij", weights, layers[found.layer_index])
    torch.testing.assert_close(found.chain.to_dense().double(), chain, atol=1e-5, rtol=0)
    start = 0 * 6 + 5  # the patch at 90 %, 10 % of a 4 × 6 grid
    for n in (1, 2, 4, 8):
        row = torch.linalg.matrix_power(chain, n)[start]
        torch.testing.assert_close(found.bounces[n].values.double(), row, atol=1e-5, rtol=0)
    uniform = torch.full((24,), 1 / 24, dtype=torch.float64)
    back = (chain / chain.sum(0)).T
    for values, one in ((found.forward.values, chain), (found.backward.values, back)):
        exact = torch.linalg.solve(torch.eye(24) - 0.99 * one.T, 0.01 * uniform)
        torch.testing.assert_close(values.double(), exact, atol=2e-5, rtol=0)


def test_what_it_says_about_itself(found: Analysis, picture: PIL.Image.Image):
    assert found.modality == "image"
    assert found.source is not None
    assert np.array_equal(np.asarray(found.source), np.asarray(picture))
    assert found.grid == (4, 6)
    assert found.layers == tuple(f"model.layer.{i}.attention" for i in range(3))
    assert found.layer_index == 2
    assert all(tuple(chain.shape) == (2, 24, 24) for chain in found.chains.values())
    assert found.chain.layout.spans == {"image": 24}
    assert not found.skipped
    assert "layer 2 of 0–2" in repr(found)
    assert found.facts()["grid"] == [4, 6]
    assert found.facts()["start"] == [0.9, 0.1]
    assert found.facts()["tokenrank"].startswith("converged")


def test_tables(found: Analysis):
    rows = found.table()
    assert [(row["layer"], row["head"]) for row in rows] == [(i, h) for i in range(3) for h in range(2)]
    assert rows[3]["lambda2"] == pytest.approx(float(found.lambda2.values[1, 1]))
    tokens = found.tokens_table()
    assert [(t["row"], t["column"]) for t in tokens] == [(i, j) for i in range(4) for j in range(6)]
    assert [t["start"] for t in tokens] == [float(i == 5) for i in range(24)]
    for name in ("bounce_1", "bounce_2", "bounce_4", "bounce_8", "tokenrank", "tokenrank_backward"):
        assert sum(t[name] for t in tokens) == pytest.approx(1, abs=1e-5)


def test_default_start_is_the_centre(vit: Model, picture: PIL.Image.Image):
    found = analyze(picture, model=vit, bounces=[1])
    assert found.start == at(0.5, 0.5)
    assert int(found.start_values.argmax()) == 2 * 6 + 3
    assert list(found.bounces) == [1]


def test_one_head_and_even_weights(vit: Model, picture: PIL.Image.Image):
    dense = dense_layers(vit, picture)
    for heads, chain in ((1, dense[0, 1]), (-2, dense[0, 0]), ("uniform", dense[0].mean(0))):
        found = analyze(picture, model=vit, layer=0, heads=heads)
        torch.testing.assert_close(found.chain.to_dense().double(), chain, atol=1e-5, rtol=0)
    assert float(analyze(picture, model=vit, layer=0, heads=1).chain_lambda2.values) == float(
        found.lambda2.values[0, 1]
    )


def test_all_tokens(vit: Model, picture: PIL.Image.Image):
    found = analyze(picture, model=vit, start=at(0.9, 0.1), tokens="all")
    assert found.chain.num_tokens == 27
    assert int(found.start_values.argmax()) == 3 + 5
    assert found.tokens_table()[0]["span"] == "cls"
    assert found.tokens_table()[0]["row"] is None
    assert found.tokens_table()[3]["row"] == 0


def test_some_layers_and_size(vit: Model, picture: PIL.Image.Image):
    stages: list[tuple[str, int, int | None]] = []
    with listening(lambda *told: stages.append(told)):
        found = analyze(picture, model=vit, layers=[0, 1], size=24)
    assert len(found.layers) == 2
    assert found.grid == (2, 3)
    assert [told[1:] for told in stages if told[0] == "|λ2| of layers"] == [(0, 2), (1, 2), (2, 2)]
    assert list(dict.fromkeys(words for words, *_ in stages)) == [
        "running the model", "|λ2| of layers", "bounces and TokenRank"
    ]  # fmt: skip


def test_text(bert: Model):
    found = analyze(SENTENCE, model=bert)
    assert found.modality == "text"
    assert found.source == tuple(SENTENCE.split())
    assert found.grid is None
    torch.testing.assert_close(found.start_values, torch.full((10,), 1 / 10, dtype=torch.float64))
    columns = found.chain.to_dense().mean(0)
    torch.testing.assert_close(found.bounces[1].values, columns)
    assert [row["text"] for row in found.tokens_table()] == list(found.source)


def test_text_from_a_word(bert: Model):
    found = analyze(SENTENCE, model=bert, start="mat", layer=0, heads=0)
    torch.testing.assert_close(found.bounces[1].values, found.chain.to_dense()[5])
    with pytest.raises(LayoutError, match="occurs 2 times, at tokens 0, 4"):
        analyze(SENTENCE, model=bert, start="the")


def test_causal_text(tmp_path: Path):
    found = analyze(SENTENCE, model=load(save_gpt2(tmp_path)), start=-1)
    assert found.chain.is_causal
    assert float(found.bounces[1].values.sum()) == pytest.approx(1)
    # attention of a causal chain drifts to the first token
    assert int(found.forward.values.argmax()) == 0
    assert found.forward.certificate is not None
    assert found.forward.certificate.method == "substitution"


def test_layers_that_share_a_module_are_told_apart(tmp_path: Path):
    found = analyze(SENTENCE, model=load(save_albert(tmp_path)))
    first, second, third = found.layers
    assert second == f"{first}#2"
    assert third == f"{first}#3"
    assert found.layer == third


def test_windows_are_one_chain(tmp_path: Path, picture: PIL.Image.Image):
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2)
    SwinModel(config).save_pretrained(tmp_path)
    found = analyze(picture, model=load(save_processor(tmp_path, 32)), layer=0)
    assert found.grid is not None
    assert found.chain.num_tokens == found.grid[0] * found.grid[1]
    assert found.lambda2.values.shape == (2, 2)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"bounces": ()}, "bounces"),
        ({"bounces": (0, 1)}, "from 1 on"),
        ({"bounces": (True,)}, "whole numbers"),
        ({"alpha": 1.5}, "alpha = 1.5"),
        ({"alpha": float("nan")}, "alpha"),
        ({"heads": "lambda3"}, "lambda3"),
        ({"heads": 2}, "it has 2, expected a number from -2 to 1"),
        ({"heads": True}, "heads = True"),
        ({"kind": "text"}, "reads image"),
        ({"layer": "nowhere"}, "no layer 'nowhere'"),
    ],
)
def test_bad_arguments(vit: Model, picture: PIL.Image.Image, wrong: dict[str, object], words: str):
    with pytest.raises((InputError, NotFoundError), match=words):
        analyze(picture, model=vit, **wrong)  # type: ignore[arg-type]


def test_layers_with_fewer_heads_are_filled_up():
    from tokenrank.analysis import _stacked
    from tokenrank.markov import Certificate, Lambda2

    def part(*values: float) -> Lambda2:
        numbers = torch.tensor(values)
        doubted = numbers > 0.5
        return Lambda2(numbers, Certificate(~doubted, numbers / 100, None, len(values), "arnoldi", doubted))

    both = _stacked([part(0.1, 0.9, 0.2), part(0.3)])
    assert both.values[0].tolist() == pytest.approx([0.1, 0.9, 0.2])
    assert both.values[1, 0] == pytest.approx(0.3)
    assert both.values[1, 1:].isnan().all()
    assert both.certificate.uncertain.tolist() == [[False, True, False], [False, False, False]]
    assert both.certificate.applies == 3


def test_a_notebook_shows_every_map(found: Analysis):
    page = found._repr_html_()
    assert page.count("<img") == 7  # the picture with the start, and six maps
    for words in ("n = 8", "TokenRank backward", "layer 2 of 0–2", "heads lambda2", "together |λ2|"):
        assert words in page
