"""How the benchmark of DiffSeg's grids chooses distances and compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from benchmarks import diffseg_page, filled
from benchmarks.diffseg import GRIDS, TAUS, chosen_keys, divided, keep, scores, truths_of
from benchmarks.diffseg_page import difference
from benchmarks.diffseg_summary import summaries
from tests.tasks.test_cluster import two_halves  # noqa: F401  a fixture
from tokenrank.chain import AttentionChain
from tokenrank.evaluate.datasets.sample import Sample


def row(key: str, method: str, at: float, covering: float, **more: Any) -> dict[str, Any]:
    figures = {"segments": 3, "covering": covering, "miou": covering, "miou_strict": covering, "accuracy": covering}
    return {"key": key, "method": method, "at": at, **figures, **more}


def made_rows() -> list[dict[str, Any]]:
    """Sixteen pictures. The uniform grid is best at 0.5 on even places and at 1.0 on odd ones; "nms" at 1.0 on all."""
    rows = []
    for n in range(16):
        even, noise = n % 2 == 0, 0.001 * n
        key = f"{n:02}"
        rows.append(row(key, "uniform", 0.5, (0.6 if even else 0.3) + noise))
        rows.append(row(key, "uniform", 1.0, (0.4 if even else 0.5) + noise))
        rows.append(row(key, "tokenrank-nms", 0.5, 0.35 + 2 * noise))
        rows.append(row(key, "tokenrank-nms", 1.0, 0.45 + noise))
        rows.append(row(key, "groups", 0.0, 0.3 + noise))
        rows.append(row(key, "cuts", 0.5, 0.2 + noise))  # a threshold, which is no distance
    return rows


def test_the_distance_is_chosen_for_the_uniform_grid_on_even_places_and_reported_on_odd_ones():
    about, lines = summaries(made_rows())
    assert about["tau"] == 0.5
    assert about["pictures"] == 16
    assert about["reported"] == 8
    shared = {line["method"]: line for line in lines if line["shared"]}
    odd = np.arange(1, 16, 2) * 0.001
    assert shared["uniform"]["covering"] == pytest.approx(0.3 + odd.mean(), abs=1e-4)
    pair = shared["tokenrank-nms"]["covering_pair"]
    assert pair["difference"] == pytest.approx(0.05 + odd.mean(), abs=1e-4)
    assert pair["low"] <= pair["difference"] <= pair["high"]
    assert pair["effect"] == 1
    assert pair["p"] == pytest.approx(2 / 2**8, rel=0.01)
    assert set(shared) == {"uniform", "tokenrank-nms"}
    own = {line["method"]: line for line in lines if line["own"]}
    assert own["tokenrank-nms"]["at"] == 1.0
    assert own["tokenrank-nms"]["covering"] == pytest.approx(0.45 + odd.mean(), abs=1e-4)


def test_holm_counts_the_methods_at_the_shared_distance():
    more = [row(f"{n:02}", "tokenrank-top", at, 0.3 + 0.001 * n) for n in range(16) for at in (0.5, 1.0)]
    _, lines = summaries(made_rows() + more)
    pairs = {line["method"]: line["covering_pair"] for line in lines if line["shared"] and "covering_pair" in line}
    assert set(pairs) == {"tokenrank-nms", "tokenrank-top"}
    assert pairs["tokenrank-nms"]["holm"] == pytest.approx(2 * pairs["tokenrank-nms"]["p"], rel=0.05)
    assert pairs["tokenrank-top"]["holm"] == 1  # equal to the uniform grid


def test_at_every_distance_all_pictures_are_compared():
    about, _ = summaries(made_rows())
    found = {(line["method"], line["at"]): line["covering_pair"] for line in about["everywhere"]}
    assert set(found) == {("tokenrank-nms", 0.5), ("tokenrank-nms", 1.0)}
    expected = np.mean([(0.35 - (0.6 if n % 2 == 0 else 0.3)) + 0.001 * n for n in range(16)])
    assert found["tokenrank-nms", 0.5]["difference"] == pytest.approx(expected, abs=1e-4)


def test_every_method_divides_every_picture(two_halves: AttentionChain):  # noqa: F811
    found = list(divided(two_halves, (8, 12)))
    tried = {(method, at) for method, at, _ in found}
    assert {(grid, tau) for grid in GRIDS for tau in TAUS} <= tried
    assert {method for method, _ in tried} == {*GRIDS, "blocks", "groups", "cuts"}
    for _, _, labels in found:
        assert labels.shape == (8, 12)
        assert set(np.unique(labels)) == set(range(labels.max() + 1))


def test_spare_segments_count_only_in_the_published_scoring():
    truth = np.repeat([[0, 0, 1, 1]], 4, 0)
    found = np.repeat([[0, 2, 1, 1]], 4, 0)  # half of the first class is a segment of its own
    figures = scores(found, [truth], 5)
    assert figures["miou_strict"] == pytest.approx((0.5 + 1) / 2)
    assert figures["miou"] == pytest.approx((0.5 + 1 + 0) / 3)  # the spare one stands for a class that is not there
    assert figures["accuracy"] == pytest.approx(0.75)
    assert scores(truth, [truth, truth], None)["covering"] == 1
    unlabelled = np.where(truth == 0, -1, truth)
    assert scores(found, [unlabelled], 5)["covering"] == 1  # the first half does not count


def test_truth_is_scored_at_the_size_of_the_labels():
    labels = np.arange(16).reshape(4, 4) // 8 - 1
    sample = Sample("a", PIL.Image.new("RGB", (4, 4)), labels=labels)
    assert truths_of(sample, (2, 2))[0].tolist() == [[-1, -1], [0, 0]]
    regions = Sample("b", PIL.Image.new("RGB", (4, 4)), regions=(labels + 2,))
    assert truths_of(regions, (4, 4))[0].tolist() == (labels + 1).tolist()


def test_what_was_found_before_is_kept(tmp_path: Path):
    out = tmp_path / "o.json"
    keep(out, {"command": "one"}, "a", "coco", {"tau": 1}, [{"method": "uniform"}])
    keep(out, {"command": "two"}, "b", "coco", {"tau": 2}, [{"method": "uniform"}])
    keep(out, {"command": "three"}, "a", "coco", {"tau": 3}, [{"method": "blocks"}])
    found = json.loads(out.read_text())
    assert found["runs"] == {"a coco": {"tau": 3}, "b coco": {"tau": 2}}
    assert [(row["network"], row["method"]) for row in found["rows"]] == [("b", "uniform"), ("a", "blocks")]


def test_the_same_pictures_are_drawn_every_time():
    keys = [f"{n}" for n in range(50)]
    assert chosen_keys(keys, 7) == chosen_keys(keys, 7)
    assert set(chosen_keys(keys, 7)) <= set(chosen_keys(keys, 20))
    assert chosen_keys(keys, 50) == keys


def test_differences_are_bold_where_they_are_sure():
    assert difference({"difference": -0.0123, "holm": 0.01}) == "**−1.2**"
    assert difference({"difference": 0.031, "holm": 0.2}) == "+3.1"
    assert difference(None) == ""


def test_tables_say_what_the_results_say(monkeypatch: pytest.MonkeyPatch):
    about, lines = summaries(made_rows())
    facts = {"command": "python -m benchmarks.diffseg DATA", "date": "2026-01-01", "torch": "2"}
    found = {
        **facts,
        "runs": {"flux coco": about, "flux ecssd": about},
        "rows": [{"network": "flux", "data": data, **line} for data in ("coco", "ecssd") for line in lines],
    }
    costs = {"streamed": 2.0, "plain": 20.0, "aggregated": 1.0}
    cost = {way: {"seconds": seconds, "gb": seconds / 10, "rounds": 1} for way, seconds in costs.items()}
    cost |= {**facts, "faster": 10.0, "less_memory": 10.0, "other_label": 0.0}
    monkeypatch.setattr(diffseg_page, "result", {"diffseg": found, "diffusion": {"diffseg": cost}}.__getitem__)
    made = {name: table() for name, table in diffseg_page.TABLES.items()}
    first, second = made["DiffSeg grids"].splitlines()[2:4]
    assert first.startswith("| small FLUX, COCO | uniform grid | 3.0 | 0.308 |  |")
    assert second.startswith("|  | TokenRank, largest and apart | 3.0 | 0.366 | **+5.8** |")
    assert "better in 2 and worse in 0 of 2" in made["DiffSeg verdict"]
    assert "τ = 0.5 (8 pictures)" in made["DiffSeg settings"]
    assert "largest and apart |  |  |  | 0 / 0 of 2 | 0 / 0 of 2 |  |" in made["DiffSeg grids at every distance"]
    assert "10 × faster" in made["DiffSeg cost"]
    text = (filled.DOCS / "diffusion.md").read_text(encoding="utf-8")
    assert set(diffseg_page.TABLES) <= {name for name, _ in filled.MARKS.findall(text)}
