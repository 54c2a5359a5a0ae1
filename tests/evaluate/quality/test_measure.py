from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import tokenrank as tr
from tests.evaluate.datasets.writing import write
from tokenrank.errors import InputError
from tokenrank.evaluate.quality import Gaussian, bundled, frechet, kernel_distance, measure, of_model, probabilities


def pictures(count: int, seed: int, level: int = 128) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.clip(random.normal(level, 60, (count, 32, 32, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def network():
    return bundled(32)


def test_every_distance_bears_the_name_of_its_network(network, tmp_path: Path):
    one, two = pictures(12, 0), pictures(16, 1, 90)
    found = measure(one, two, [network, replace(network, name="other")], labels=[0] * 12, store=tmp_path, resamples=20)
    for name in ("bundled", "other"):
        x, y = (network.run(p).values for p in (one, two))
        assert found.values[f"fd_{name}"] == pytest.approx(frechet(Gaussian.of(x), Gaussian.of(y)), rel=1e-4)
        assert found.values[f"kid_{name}"] == pytest.approx(kernel_distance(x, y), rel=1e-4)
        for distance in ("fd", "kid"):
            sure = found.intervals[f"{distance}_{name}"]
            assert sure.low < sure.estimate < sure.high
    assert set(found.values) == {
        f"{what}_{name}" for what in ("fd", "kid", "precision", "recall", "accuracy") for name in ("bundled", "other")
    }
    assert (found.pictures, found.real) == (12, 16)


def test_pictures_that_are_alike_are_nearer(network):
    same = measure(pictures(20, 0), pictures(20, 1), [network], resamples=5).values
    darker = measure(pictures(20, 0, 60), pictures(20, 1), [network], resamples=5).values
    assert darker["fd_bundled"] > same["fd_bundled"]
    assert darker["kid_bundled"] > same["kid_bundled"]
    assert darker["precision_bundled"] <= same["precision_bundled"]


def test_accuracy_counts_the_pictures_that_the_classifier_names(network):
    one = pictures(8, 0)
    logits = network.run(one).logits
    assert logits is not None
    assert logits.shape == (8, 200)
    right = logits.argmax(1)
    wrong = (right + 1) % 200
    labels = [*right[:6].tolist(), *wrong[6:].tolist()]
    found = measure(one, None, [network], labels=labels, resamples=50)
    assert found.values == {"accuracy_bundled": 0.75}
    assert found.intervals["accuracy_bundled"].low < 0.75
    expected = torch.from_numpy(logits).softmax(1)[range(8), labels]
    np.testing.assert_allclose(probabilities(logits, labels), expected, rtol=1e-5)


def test_a_model_of_a_folder_sees_pictures_as_tokenrank_prepares_them(network):
    """Of its own size, so that only normalisation is at stake."""
    model = tr.load("bundled", head=True)
    picture = pictures(1, 0)[0]
    inputs = model.prepare(PIL.Image.fromarray(picture), size=32)
    expected = model.forward(inputs).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(network.run(picture[None]).values, expected, rtol=1e-4, atol=1e-4)


def test_pictures_are_enlarged_and_reduced_smoothly(network, tmp_path: Path):
    smooth = PIL.Image.fromarray(pictures(1, 0)[0]).resize((8, 8)).resize((96, 96), PIL.Image.Resampling.BICUBIC)
    write(tmp_path / "one.png", np.asarray(smooth))
    large = network.run(np.asarray(smooth)[None]).values
    small = network.run(np.asarray(smooth.resize((32, 32), PIL.Image.Resampling.BICUBIC))[None]).values
    other = network.run(pictures(1, 7)).values
    assert np.abs(large - small).mean() < 0.1 * np.abs(large - other).mean()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"networks": []}, "expected one at least"),
        ({"networks": [1, 1]}, "none twice"),
        ({"labels": [0]}, "1 labels for 4 pictures"),
        ({"real": None}, "nothing to measure"),
    ],
)
def test_what_cannot_be_measured_is_refused(network, options, words: str):
    given = {"real": pictures(4, 1), "networks": [1], **options}
    given["networks"] = [network for _ in given["networks"]]
    with pytest.raises(InputError, match=words):
        measure(pictures(4, 0), given.pop("real"), given.pop("networks"), **given)


def test_sizes_that_patches_do_not_divide_and_texts_are_refused():
    with pytest.raises(InputError, match="size = 30, expected a multiple of the patch, 8 × 8"):
        bundled(30)
    with pytest.raises(InputError, match="expected one that reads pictures"):
        of_model(tr.load("bundled", kind="text"))


def test_labels_that_are_no_class_are_refused():
    with pytest.raises(InputError, match="labels from 0 to 3, expected 0 to 2"):
        probabilities(np.zeros((2, 3)), [0, 3])
    with pytest.raises(InputError, match="3 labels"):
        probabilities(np.zeros((2, 3)), [0, 1, 2])
