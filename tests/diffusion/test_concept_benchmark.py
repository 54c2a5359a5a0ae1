"""The benchmark of concept maps on a few mosaics and a FLUX of random weights: it measures what the library does."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")
pytest.importorskip("sklearn")
pytest.importorskip("scipy")
diffusers = pytest.importorskip("diffusers")

import tokenrank as tr  # noqa: E402
from benchmarks import concepts as bench  # noqa: E402
from benchmarks.concept import methods, scores  # noqa: E402
from benchmarks.concept.mosaics import Mosaics, draw  # noqa: E402
from benchmarks.concept.summary import MEAN, Measured, between_all, chosen, heads_compared  # noqa: E402
from benchmarks.concept.variants import Variant  # noqa: E402
from tokenrank.evaluate.metrics.curves import average_precision, pooled_average_precision  # noqa: E402
from tokenrank.evaluate.metrics.foreground import counts, strict_miou  # noqa: E402
from training.text_to_image.autoencoder import make_autoencoder  # noqa: E402
from training.text_to_image.export import silent_encoder  # noqa: E402
from training.text_to_image.network import Painter  # noqa: E402
from training.text_to_image.train import CLASSES  # noqa: E402
from training.text_to_image.words import class_names, make_tokenizer  # noqa: E402

NOISE = 0.4
NAMES = (
    "random", "raw_column", "expert_layer", "daam", "concept_attention", "iseg", "automatic_heads", "walked_ncut",
    "bounce n = 1", "bounce n = 2", "bounce n = 3", "bounce n = 10", "tokenrank", "absorption",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    lines = [f"{number}\tn{number:08}\tthing{number} of wood, big{number}" for number in range(200)]
    (folder / "classes.txt").write_text("\n".join(lines), encoding="utf-8")
    blobs, labels = [], [*CLASSES] * 2
    for pixels in np.random.default_rng(0).integers(0, 256, (len(labels), 64, 64, 3), np.uint8):
        held = io.BytesIO()
        PIL.Image.fromarray(pixels).save(held, "JPEG", quality=95)
        blobs.append(held.getvalue())
    pa.parquet.write_table(pa.table({"image": blobs, "label": labels}), folder / "val.parquet")
    return folder


@pytest.fixture(scope="module")
def pipe(data: Path) -> Any:
    tokenizer = make_tokenizer([class_names(data / "classes.txt")[number] for number in CLASSES])
    torch.manual_seed(0)
    painter = Painter(len(tokenizer), dual=1, single=1).eval()
    for weight in painter.denoiser.parameters():  # blocks begin as the identity, and would attend to next to nothing
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)
    made = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0), vae=make_autoencoder(),
        text_encoder=silent_encoder(len(tokenizer)), tokenizer=tokenizer, text_encoder_2=painter.text_encoder,
        tokenizer_2=tokenizer, transformer=painter.denoiser,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def mosaics(data: Path) -> Mosaics:
    return draw(data, 4)


@pytest.fixture(scope="module")
def small(pipe: Any, mosaics: Mosaics) -> Any:
    return bench.Bench(pipe, mosaics)


@pytest.fixture(scope="module")
def measured(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    parts = bench.Parts(tmp_path_factory.mktemp("parts") / "a", {})
    return bench.measure(small, parts, (0.3, 0.6))


# ---- mosaics


def test_parts_of_a_mosaic_are_those_of_its_words(data: Path) -> None:
    found = draw(data, 40)
    assert len(found) == 40
    assert bool((found.truth.sum(1) == 1).all()), "a patch belongs to one word"
    assert found.truth.shape == (40, 2, 8, 8)
    assert set(found.truth.float().mean((2, 3)).flatten().tolist()) == {0.25, 0.5, 0.75}
    assert all(first != second for first, second in found.words)
    assert draw(data, 40).words == found.words
    assert draw(data, 40, seed=1).words != found.words


def test_halves_share_no_picture(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[set[int]] = []
    original = bench.draw.__globals__["_pairs"]

    def watched(places, *more):
        ones, twos = original(places, *more)
        taken.append({*ones.tolist(), *twos.tolist()})
        return ones, twos

    monkeypatch.setitem(bench.draw.__globals__, "_pairs", watched)
    draw(data, 40)
    assert len(taken) == 2
    assert not taken[0] & taken[1]


# ---- maps


def single(small: Any, place: int) -> Any:
    """The observation of one mosaic, by the library alone."""
    pixels = (small.mosaics.pictures[place] + 1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    return tr.observe(
        PIL.Image.fromarray(pixels), model=small.pipe, prompt=small.mosaics.prompt(place), noise=NOISE,
        seed=1000 * place + round(100 * NOISE),
    )  # fmt: skip


def test_attention_of_a_batch_is_that_of_observe(small: Any) -> None:
    for batch in small.batches:
        scene = small.scene(batch, small.prompts(batch), NOISE)
        for row, place in enumerate(batch):
            seen = single(small, place)
            assert seen.special == scene.special
            for layer, name in zip(scene.heads, seen.blocks, strict=True):
                torch.testing.assert_close(
                    scene.heads[layer][row], seen.block(name).to_dense().double(), atol=2e-5, rtol=0
                )


@pytest.mark.parametrize("heads", ["uniform", "lambda2"])
@pytest.mark.parametrize("padding", ["censor", "drop", "keep"])
def test_walks_are_those_of_concept_maps(small: Any, padding: str, heads: str) -> None:
    batch = small.batches[0]
    scene = small.scene(batch, small.prompts(batch), NOISE)
    weights = methods.uniform(scene) if heads == "uniform" else methods.by_lambda2(scene)
    seen = single(small, batch[0])
    names = dict(zip(scene.heads, seen.blocks, strict=True))
    checked = 0
    for variant, maps in methods.of_walks(scene, methods.chains_of(scene, weights, padding), heads, padding):
        told = variant.settings
        options = {key: value for key, value in told.items() if key == "direction"}
        found = tr.tasks.concept_maps(
            seen, small.mosaics.words[batch[0]], layers=names.get(variant.layer), heads=heads, padding=padding,
            refine=variant.method, n=int(told.get("n", 1)), alpha=float(told.get("alpha", 0.99)), cut=None, **options,
        )  # fmt: skip
        ours = maps[0]
        if variant.method != "absorption":
            ours = ours / ours.sum(-1, keepdim=True)
        torch.testing.assert_close(ours.float(), found.values.flatten(1), atol=3e-5, rtol=2e-3)
        checked += 1
    assert checked == 3 * (2 * (4 + 3) + 1)  # layers and their mean; directions, bounces, alphas; absorption


def test_methods_of_others_are_those_of_the_library(small: Any) -> None:
    batch = small.batches[0]
    scene = small.scene(batch, small.prompts(batch), NOISE)
    seen, words = single(small, batch[0]), small.mosaics.words[batch[0]]
    maps = {str(variant): found[0] for variant, found in methods.of_others(scene)}
    chains = methods.chains_of(scene, methods.uniform(scene), "keep")
    maps |= {str(variant): found[0] for variant, found in methods.of_iseg(scene, chains)}
    by = tr.baselines.concepts
    pairs = {
        "raw_column | single 0": by.raw_column(seen, words, layer=1),
        "expert_layer | dual 0": by.expert_layer(seen, words, layer=0),
        "concept_attention | all": by.concept_attention(seen, words),
        "automatic_heads | all | rescale=True": by.automatic_heads(seen, words),
        "automatic_heads | dual 0 | rescale=False": by.automatic_heads(seen, words, layers=0, rescale=False),
        "iseg | dual 0 | iterations=3 | entropy=0.1 | turned=True": by.iseg(
            seen, words, layers=0, iterations=3, entropy=0.1, turned=True
        ),
    }
    for name, found in pairs.items():
        torch.testing.assert_close(maps[name].float(), found.values.flatten(1), atol=3e-5, rtol=2e-3)
    torch.testing.assert_close(maps["daam | all"].float(), by.daam(seen, words).values.flatten(1), atol=1e-4, rtol=2e-3)


def test_shares_are_the_softmax_cut(small: Any) -> None:
    maps = torch.rand(1, 2, 64, dtype=torch.float64)
    wanted = maps[0] / maps[0].sum(-1, keepdim=True)
    torch.testing.assert_close(methods.shares(maps)[0], wanted / wanted.sum(0))


# ---- scores


def test_scores_are_those_of_the_library() -> None:
    random = np.random.default_rng(0)
    maps = random.integers(0, 9, (30, 2, 64)) / 8
    maps[0] = 1  # constant
    truth = random.random((30, 2, 64)) < 0.4
    found = scores.scored(maps, truth)
    for row, own, true in zip(found.reshape(-1, 7), maps.reshape(-1, 8, 8), truth.reshape(-1, 8, 8), strict=True):
        spread = own.max() - own.min()
        scaled = (own - own.min()) / (spread if spread > 0 else 1)
        assert row[0] == pytest.approx(pooled_average_precision(scaled, true), abs=1e-12)
        assert row[1] == pytest.approx(average_precision(scaled, true), abs=1e-12)
        wanted = counts(own > own.mean(), true)
        assert row[2:6].tolist() == [wanted.tp, wanted.fp, wanted.fn, wanted.tn]
        assert scores.strict_iou(row[2:6]) == pytest.approx(strict_miou(wanted))
        best = np.argwhere(own == own.max())
        assert row[6] == pytest.approx(np.mean([true[tuple(place)] for place in best]))


def test_a_perfect_map_and_its_opposite() -> None:
    truth = np.zeros((1, 64), bool)
    truth[0, :20] = True
    right, wrong = (scores.scored(maps.astype(float), truth)[0] for maps in (truth, ~truth))
    assert right[0] == right[1] == right[6] == 1
    assert wrong[0] == pytest.approx(0.5), "of two values, all in the wrong order: half of everything in one step"
    assert wrong[6] == 0


# ---- the whole


def test_the_whole_benchmark(small: Any, measured: Any) -> None:
    figures, found = measured
    assert figures["mosaics"] == 4
    assert figures["reported"] == 2
    names = {row["method"] for row in figures["methods"]}
    assert names == {*NAMES}
    assert len(figures["tests"]) == len(names) * (len(names) - 1) // 2
    assert {row["first"] for row in figures["heads"]} >= {"bounce n = 2, λ2", "tokenrank, λ2"}
    assert all(np.isfinite(values).all() for values in found.scores.values()), "every mosaic has every score"
    levels = {noise for _, noise in found.scores}
    assert levels == {"0.3", "0.6", MEAN}
    best = figures["defaults"][0]
    by_hand = [found.figures((Variant.read(best["variant"]), noise), True)["ap"] for noise in ("0.3", "0.6")]
    assert best["development_ap"] == pytest.approx(np.mean(by_hand))
    assert best["development_ap"] == max(row["development_ap"] for row in figures["defaults"])
    rows = bench.rows_of(found, figures)
    held = {(row["variant"], row["noise"]) for row in rows}
    assert {(row["variant"], row["noise"]) for row in figures["methods"]} <= held
    assert len(held) == len(rows) < len(found.scores)
    json.dumps([figures, rows])


def test_a_second_start_computes_nothing_anew(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = bench.Parts(tmp_path / "parts", {"count": 4})
    batch = small.batches[0]
    made = parts.scores("one", lambda: bench.swept(small, batch, (NOISE,)))
    again = parts.scores("one", lambda: pytest.fail("computed again"))
    assert made.keys() == again.keys()
    assert all(np.array_equal(made[key], again[key]) for key in made)
    with pytest.raises(SystemExit, match="other settings"):
        bench.Parts(tmp_path / "parts", {"count": 6})


def test_choices_are_made_on_the_development_half_alone() -> None:
    """A variant that is best on the reported half, and not on the other, is not chosen."""
    development = np.array([True] * 10 + [False] * 10)
    table = np.full((20, 2, 7), 0.5)
    honest, lucky = table.copy(), table.copy()
    honest[:10, :, 0], lucky[10:, :, 0] = 0.7, 0.9
    keys = [(Variant.of("raw_column", layer), "0.5") for layer in ("dual 0", "dual 1")]
    measured = Measured(dict(zip(keys, (honest, lucky), strict=True)), development)
    (row,) = chosen(measured)
    assert row["variant"] == "raw_column | dual 0"
    assert row["ap"] == pytest.approx(0.5)
    assert row["development_ap"] == pytest.approx(0.7)


def test_tests_are_paired_and_corrected() -> None:
    random = np.random.default_rng(0)
    development = np.arange(60) < 30
    base = random.random((60, 2, 7))
    better = base.copy()
    better[..., 0] += 0.1
    keys = {name: (Variant.of(name, "all"), "0.5") for name in ("iseg", "daam", "random")}
    measured = Measured(
        {keys["iseg"]: better, keys["daam"]: base, keys["random"]: random.random((60, 2, 7))}, development
    )
    rows = {(row["first"], row["second"]): row for row in between_all(measured, chosen(measured))}
    assert len(rows) == 3
    row = rows["iseg", "daam"]
    assert row["n"] == 30
    assert row["difference"] == pytest.approx(0.1)
    assert row["effect"] == 1
    assert row["p"] <= row["holm"] <= 3 * row["p"] * (1 + 1e-12)


def test_heads_are_compared_all_else_equal() -> None:
    development = np.arange(8) < 4
    tables = {}
    for n, heads, value in ((1, "uniform", 0.6), (1, "lambda2", 0.65)):
        table = np.full((8, 2, 7), value) + np.random.default_rng(n).random((8, 2, 7)) / 100
        tables[Variant.of("bounce", "all", heads=heads, padding="drop", direction="forward", n=n), "0.5"] = table
    (row,) = heads_compared(Measured(tables, development))
    assert (row["first"], row["second"]) == ("bounce n = 1, λ2", "bounce n = 1, uniform")
    assert row["difference"] == pytest.approx(0.05)


def test_variants_are_read_as_they_are_written() -> None:
    variant = Variant.of("bounce", "single 1", heads="uniform", n=2).with_option("cut", "softmax")
    assert Variant.read(str(variant)) == variant
    assert variant.settings["n"] == "2"


def test_turned_words_have_turned_maps(small: Any) -> None:
    batch = small.batches[0]
    key = (Variant.of("bounce", "all", heads="uniform", padding="drop", direction="backward", n=1), f"{NOISE}")
    found = bench.turned(small, batch, key)
    assert found["ap"].shape == (len(batch), 2)
    assert (found["same"] > found["other"]).all(), "a word's map is its own, wherever it stands in the prompt"


# ---- the page


def test_every_table_and_the_curves_are_made_of_the_figures(
    small: Any, measured: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks import concepts_figure, concepts_page
    from benchmarks.facts import facts, save

    figures, found = measured
    file = tmp_path / "concepts.json"
    save(file, {**facts("diffusers"), "levels": (0.3, 0.6), "seed": 0, **figures}, bench.rows_of(found, figures))
    monkeypatch.setattr(concepts_page, "result", lambda name: json.loads(file.read_text(encoding="utf-8")))
    concepts_page.found.cache_clear()
    tables = {name: make() for name, make in concepts_page.TABLES.items()}
    best = figures["methods"][0]
    assert f"{best['ap']:.3f}" in tables["concept methods"].splitlines()[2]
    assert len(tables["concept methods"].split("\n\n")[0].splitlines()) == 2 + len(NAMES)
    layers = [line for line in tables["concept layers"].splitlines() if line.startswith("| ")]
    assert len(layers) == 2 * (2 + 3), "two tables of two layers and all, with their heads and rules"
    assert not any(cell.strip() == "" for line in layers for cell in line.split("|")[2:-1]), "every cell is measured"
    assert all(name in tables["concept noise"] for name in ("iSeg", "DAAM", "raw column"))
    curves = concepts_figure.noise_curves()
    assert len(curves.axes) == 2
    assert all(len(axes.lines) > 3 for axes in curves.axes)
    concepts_page.found.cache_clear()
