"""Examples of a report: the right images, and on them exactly what was measured."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.evaluate.protocol_cases import Listed, block, picture
from tests.evaluate.runs import METHODS, Brightness, Pictures, run_pictures
from tests.evaluate.runs import model as tiny
from tokenrank.errors import InputError
from tokenrank.evaluate.datasets.sample import Dataset, Sample
from tokenrank.evaluate.metrics.foreground import counts, iou, strict_miou
from tokenrank.evaluate.metrics.hungarian import accuracy, histogram, match_histogram
from tokenrank.evaluate.metrics.regions import covering
from tokenrank.evaluate.protocols import Clustering, ImageNetSegmentation, Masking, Protocol, Regions, Saliency, Seed
from tokenrank.evaluate.protocols import Several as SeveralObjects
from tokenrank.evaluate.protocols.shown import Shown
from tokenrank.evaluate.report import Examples, collect, find_examples, write_report
from tokenrank.evaluate.report.examples import chosen
from tokenrank.evaluate.report.pictures import LONG, panels
from tokenrank.evaluate.runner import Run, run
from tokenrank.models import Model, load

MAPS = "tokenrank:layer=3:heads=uniform,random,column_sum"


@pytest.fixture(scope="module")
def model() -> Model:
    return load("bundled")


def samples() -> Listed:
    """Four pictures with everything that a protocol may ask for."""
    made = []
    for seed in range(4):
        mask = block(rows=slice(8, 24 + 6 * seed), columns=slice(6 * seed, 6 * seed + 24))
        labels = mask.astype(np.int64)
        labels[40:, :] = 2
        made.append(
            Sample(f"picture {seed}", picture(seed=seed), mask, labels=labels, regions=(labels + 1,), target=seed)
        )
    return Listed(*made)


def examples_of(folder: Path, protocol: Protocol, model: Model, typed: str, data: Dataset | None = None) -> Any:
    data = samples() if data is None else data
    methods = protocol.methods(typed)
    done = run(protocol, data, model, methods, folder)
    results = collect(done, protocol, resamples=5)
    return done, results, find_examples(results, protocol, data, model, methods)


def measured(protocol: Protocol, shown: Shown, sample: Sample) -> float:
    """The headline again, from what is shown."""
    if isinstance(protocol, Regions):
        return covering(shown.found, sample.regions)
    if isinstance(protocol, Clustering):
        return accuracy(match_histogram(histogram(shown.found, shown.truth, 3)))
    counted = counts(shown.found, shown.truth, shown.void)
    return float(strict_miou(counted) if isinstance(protocol, ImageNetSegmentation) else iou(counted))


@pytest.mark.parametrize(
    ("protocol", "methods", "column"),
    [
        (Saliency(size=64, posts=()), MAPS, "iou"),
        (Seed(size=64, posts=()), "bounce:n=2,random", "iou"),
        (ImageNetSegmentation(side=48), MAPS, "miou"),
        (Regions(size=64, scales=(2, 3, 4)), "kmeans:layer=3,merge", None),
        (Clustering(classes=3, pixels=48, size=64), "kmeans:k=3,kmeans:k=2:layer=3", "accuracy"),
    ],
)
def test_what_is_shown_is_what_was_measured(
    tmp_path: Path, model: Model, protocol: Protocol, methods: str, column: str | None
):
    done, results, examples = examples_of(tmp_path, protocol, model, methods)
    rows = done.rows().set_index(["method", "key"])
    assert list(examples.found) == [line.method for line in results.lines]
    assert not examples.missing
    data = samples()
    for method, found in examples.found.items():
        assert [example.which for example in found] == ["best", "median", "worst"]
        for example in found:
            row = rows.loc[(method, example.key)]
            expected = row[column] if column else max(row["covered"]) / row["area"]
            assert measured(protocol, example.shown, data.read(example.key)) == pytest.approx(expected, abs=1e-12)
            assert example.shown.found.shape == (example.shown.image.height, example.shown.image.width)


def test_several_objects_show_the_largest_class_and_its_seed(tmp_path: Path, model: Model):
    _, _, examples = examples_of(tmp_path, SeveralObjects(size=64), model, "bounce:n=2")
    for example in examples.found["bounce:n=2"]:
        labels = samples().read(example.key).labels
        assert labels is not None
        assert (example.shown.truth == (labels == 0)).all()
        x, y = example.shown.start
        assert labels[int(y * labels.shape[0]), int(x * labels.shape[1])] == 0


def test_masking_shows_the_map(tmp_path: Path):
    model = load("bundled", head=True)
    protocol = Masking(how=("remove",), orders=("most",), ratios=(0, 0.5), side=48)
    _, _, examples = examples_of(tmp_path, protocol, model, "column_sum:layer=3")
    for example in examples.found["column_sum:layer=3"]:
        assert example.shown.truth is None
        assert example.shown.found.dtype == np.float64
        assert [panel.what for panel in panels(example.shown)] == ["picture", "found"]


def test_best_median_and_worst_by_the_headline(tmp_path: Path):
    results = collect(run_pictures(tmp_path), Brightness(), resamples=5)
    values = results.values["raw"].sort_values(ascending=False)
    found = chosen(results, "raw")
    assert [which for which, _, _ in found] == ["best", "median", "worst"]
    assert [key for _, key, _ in found] == [values.index[0], values.index[5], values.index[-1]]
    assert [value for _, _, value in found] == [values.iloc[0], values.iloc[5], values.iloc[-1]]
    low = chosen(replace(results, higher_is_better=False), "raw")
    assert [key for _, key, _ in low] == [values.index[-1], values.index[6], values.index[0]]


@pytest.mark.parametrize(("images", "which"), [(1, ["only"]), (2, ["best", "worst"]), (3, ["best", "median", "worst"])])
def test_few_images_have_fewer_examples(tmp_path: Path, images: int, which: list[str]):
    results = collect(run_pictures(tmp_path, Pictures(images)), Brightness(), resamples=5)
    assert [name for name, _, _ in chosen(results, "raw")] == which
    gaps = results.values.copy()
    gaps.loc[:, "raw"] = np.nan
    assert chosen(replace(results, values=gaps), "raw") == []


def test_data_that_are_gone_cost_the_examples_and_not_the_report(tmp_path: Path, model: Model):
    protocol, data = Saliency(size=64, posts=()), samples()
    done, results, _ = examples_of(tmp_path, protocol, model, MAPS, data)
    (key, *_) = (example for _, example, _ in chosen(results, "random"))

    class Gone(Listed):
        def read(self, name: str) -> Sample:
            if name == key:
                raise InputError(f"cannot read '/home/me/data/{name}.jpg': no such file")
            return super().read(name)

    gone = Gone(*data.samples.values())
    methods = protocol.methods(MAPS)
    examples = find_examples(results, protocol, gone, model, methods)
    assert key not in {example.key for found in examples.found.values() for example in found}
    assert examples.found["random"]
    assert f"cannot read '{key}.jpg': no such file" in examples.missing
    write_report(done, protocol, examples=examples)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Some examples could not be computed any more" in page
    assert "/home/me" not in page

    other = find_examples(results, protocol, Listed(replace(data.read(key), key="other")), model, methods)
    assert other.found == {}
    assert "it is not in the data set" in other.missing


def test_reports_without_examples_say_why(tmp_path: Path):
    write_report(run_pictures(tmp_path), Brightness())
    assert "No example pictures: this report was written from the run" in (tmp_path / "report.md").read_text()
    results = collect(Run(tmp_path), Brightness(), resamples=5)
    none = find_examples(results, Brightness(), Pictures(), tiny(), METHODS)
    assert none == Examples({}, "No example pictures: protocol 'brightness' has nothing for a picture to show.")


def opened(jpeg: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def test_panels_mark_what_is_too_much_and_what_is_missing():
    found, truth, void = (np.zeros((60, 80), bool) for _ in range(3))
    found[:, :40], truth[:30, :], void[:, 72:] = True, True, True
    grey = PIL.Image.new("RGB", (80, 60), (128, 128, 128))
    shown = panels(Shown(grey, found, truth, void, (0.25, 0.5)))
    assert [panel.what for panel in shown] == ["picture", "ground truth", "found"]
    assert all(panel.size == (80, 60) for panel in shown)
    start, truths, both = (opened(panel.jpeg) for panel in shown)
    assert start[30, 20].max() < 60  # the black middle of its marker
    assert abs(start[10, 60] - 128).max() < 6
    assert abs(truths[10, 60] - 128).max() < 6
    assert truths[50, 60].max() < 60
    assert abs(both[10, 10] - 128).max() < 6  # rightly found
    assert both[50, 10, 0] > both[50, 10, 2] + 80  # orange
    assert both[10, 60, 2] > both[10, 60, 0] + 80  # blue
    assert both[50, 60].max() < 60  # rightly left out
    assert abs(both[50, 77] - 128).max() < 6  # void


def test_panels_are_small_and_take_segments_and_maps():
    image = picture(900, 300)
    labels = np.zeros((300, 900), np.int64)
    labels[:, 450:] = 1
    labels[:20] = -1
    for area in (labels, np.linspace(0, 1, 300 * 900).reshape(300, 900), np.ones((300, 900))):
        (first, last) = panels(Shown(image, area))
        assert first.size == last.size == (LONG, LONG // 3)
    left, right = (opened(panels(Shown(image, labels))[1].jpeg)[60, x] for x in (60, 200))
    assert abs(left - right).max() > 40
