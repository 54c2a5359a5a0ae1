from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest

from tests.evaluate.runs import METHODS, Brightness, Pictures, method, model, run_pictures
from tokenrank.errors import InputError, NotFoundError
from tokenrank.evaluate.report import collect, write_report
from tokenrank.evaluate.report.markdown import as_markdown
from tokenrank.evaluate.report.words import bounds, number, probability, without_paths
from tokenrank.evaluate.statistics import Interval, bootstrap, compare, holm

if TYPE_CHECKING:
    import pandas as pd

FILES = {
    "means.png", "means.pdf", "differences.png", "differences.pdf", "report.md", "report.html", "results.json"
}  # fmt: skip


class Ratio(Brightness):
    """A figure of the data set that is no mean of figures of images."""

    name = "ratio"
    headline = "ratio"
    higher_is_better = False

    def rows(self, model: Any, sample: Any, methods: Any) -> list[dict[str, Any]]:
        grey = int(np.asarray(sample.image)[0, 0, 0])
        return [{"method": m.name, "hits": grey // (i + 1), "all": grey + 10} for i, m in enumerate(methods)]

    def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
        sums = rows.groupby("method", sort=False)[["hits", "all"]].sum()
        curve = [np.array([0.5, 1.0])] * len(sums)
        return sums.assign(ratio=sums["hits"] / sums["all"], curve=curve).reset_index()


def test_files_and_what_they_return(tmp_path: Path):
    paths = write_report(run_pictures(tmp_path), Brightness())
    assert {path.name for path in paths} == FILES
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"parts", "run.json", "run.lock"}
    assert PIL.Image.open(tmp_path / "means.png").size[0] == 1560
    assert (tmp_path / "differences.pdf").read_bytes().startswith(b"%PDF-")


def test_a_mean_has_the_bootstrap_interval_of_its_images(tmp_path: Path):
    done = run_pictures(tmp_path)
    results = collect(done, Brightness(), "raw", resamples=500)
    rows = done.rows()
    scores = {m.name: rows[rows["method"] == m.name]["score"].to_numpy() for m in METHODS}
    for line in results.lines:
        expected = bootstrap(scores[line.method], resamples=500)
        assert (line.headline.estimate, line.headline.low, line.headline.high) == pytest.approx(
            (expected.estimate, expected.low, expected.high)
        )
        assert line.images == 12
        assert line.figures == {"pixels": 48}
    first, second, raw = results.lines
    assert (raw.difference, raw.paired, raw.p_holm) == (None, None, None)
    assert first.paired == compare(scores["tokenrank:layer=3"], scores["raw"], resamples=500)
    assert first.difference.low == pytest.approx(first.paired.difference.low)
    assert (first.p_holm, second.p_holm) == holm([first.paired.p, second.paired.p])


def test_a_figure_of_the_data_set_is_recomputed_on_every_resample(tmp_path: Path):
    done = run_pictures(tmp_path, protocol=Ratio())
    results = collect(done, Ratio(), resamples=60)
    rows = done.rows().sort_values(["method", "key"])
    hits = {name: part["hits"].to_numpy() for name, part in rows.groupby("method")}
    counted = rows[rows["method"] == "raw"]["all"].to_numpy()
    places = np.random.default_rng(0).integers(0, 12, (60, 12))
    drawn = {name: hits[name][places].sum(1) / counted[places].sum(1) for name in hits}
    for line in results.lines:
        expected = np.quantile(drawn[line.method], [0.025, 0.975])
        assert line.headline.estimate == pytest.approx(hits[line.method].sum() / counted.sum())
        assert (line.headline.low, line.headline.high) == pytest.approx(tuple(expected))
    # lower is better, so the last method is the best
    assert (results.reference, results.given) == ("raw", False)
    line = results.lines[0]
    difference = np.quantile(drawn[line.method] - drawn["raw"], [0.025, 0.975])
    assert (line.difference.low, line.difference.high) == pytest.approx(tuple(difference))
    assert results.per_image == "ratio of each image taken as a data set of its own"
    assert line.paired.difference.estimate == pytest.approx(np.mean((hits[line.method] - hits["raw"]) / counted))


def test_images_without_a_value_are_left_out_of_the_paired_test(tmp_path: Path):
    class Gaps(Ratio):
        def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
            found = super().summary(rows)
            found.loc[found["hits"] == 0, "ratio"] = np.nan
            return found

    line = collect(run_pictures(tmp_path, protocol=Gaps()), Gaps(), resamples=20).lines[0]
    assert line.paired.n == 11  # the black picture has no hits


def test_one_method_has_nothing_to_be_compared_with(tmp_path: Path):
    paths = write_report(run_pictures(tmp_path, methods=METHODS[:1]), Brightness())
    assert not {path.name for path in paths} & {"differences.png", "differences.pdf"}
    text = (tmp_path / "report.md").read_text()
    assert "Differences" not in text
    assert json.loads((tmp_path / "results.json").read_text())["methods"][0]["method"] == "tokenrank:layer=3"


def test_the_commit_of_a_model_of_the_hub_is_told(tmp_path: Path):
    for commit in ("0123abc", None):
        done = run_pictures(tmp_path / str(commit), model=replace(model(), commit=commit))
        write_report(done, Brightness())
        for name in ("report.html", "report.md"):
            text = (done.folder / name).read_text()
            assert ("Model tiny, commit 0123abc of the Hugging Face hub." in text) == (commit is not None)


def test_links_under_the_names_of_a_report_are_not_followed(tmp_path: Path):
    done = run_pictures(tmp_path / "run")
    (tmp_path / "theirs").write_bytes(b"theirs")
    (done.folder / "report.html").symlink_to("../theirs")
    with pytest.raises(InputError, match=r"report\.html': it is a link, which is not followed; all rows are kept"):
        write_report(done, Brightness())
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


def test_equal_methods_have_p_one(tmp_path: Path):
    class Constant(Ratio):
        def rows(self, model: Any, sample: Any, methods: Any) -> list[dict[str, Any]]:
            return [{"method": m.name, "hits": 1, "all": 2} for m in methods]

    line = collect(run_pictures(tmp_path, protocol=Constant()), Constant(), "raw", resamples=10).lines[0]
    assert (line.paired.p, line.p_holm, line.paired.effect, line.paired.equal) == (1, 1, 0, 12)


class Check(HTMLParser):
    """Collects what a page would load, and that its elements close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(tmp_path: Path):
    write_report(run_pictures(tmp_path), Brightness())
    page = Check()
    page.feed((tmp_path / "report.html").read_text("utf-8"))
    assert page.open == []
    assert page.sources
    assert all(source.startswith("#") for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)


HOSTILE = "a|b*_`<script>alert(1)</script>&$x$\n[x](http://y)"


def test_names_from_outside_are_escaped_everywhere(tmp_path: Path):
    pictures = Pictures([HOSTILE, "b", "c"], broken={HOSTILE: f"broken: {HOSTILE}"})
    done = run_pictures(tmp_path, pictures, methods=[method(HOSTILE), method("rollout")])
    write_report(done, Brightness())
    html = (tmp_path / "report.html").read_text("utf-8")
    page = Check()
    page.feed(html)
    assert page.open == []
    assert "script" not in page.tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "<script" not in text.replace("\\<script", "")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 9
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1, table
    assert json.loads((tmp_path / "results.json").read_text())["methods"][0]["method"] == HOSTILE


def test_markdown_shows_text_as_it_is():
    assert as_markdown("a|b") == r"a\|b"
    assert as_markdown("x\n y\u202e") == r"x y\u202e"
    assert as_markdown("5 < 6 *really*") == r"5 \< 6 \*really\*"


def test_failures_problems_and_open_images_are_reported(tmp_path: Path):
    where = tmp_path / "data" / "images" / "image 02.jpg"
    broken = {f"image {i:02}": f"cannot read '{where}': {where}: truncated" for i in range(2, 70)}
    done = run_pictures(tmp_path / "run", Pictures(80, broken))
    write_report(done, Brightness(), resamples=50)
    text = (tmp_path / "run" / "report.md").read_text()
    assert "12 of 80 images done, 68 failed. The data set left 1 images out." in text
    assert "18 more stand in results.json." in text
    assert "| image 02 | InputError: cannot read 'image 02.jpg': image 02.jpg: truncated |" in text
    assert "| lost | has no mask |" in text
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert stored["images"] == {"all": 80, "done": 12, "failed": 68}
    assert len(stored["failures"]) == 68


def test_an_unfinished_run_says_so(tmp_path: Path):
    def interrupt(key: str) -> None:
        if key == "image 07":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pictures(tmp_path, protocol=Brightness(before=interrupt))
    from tokenrank.evaluate.runner import Run

    write_report(Run(tmp_path), Brightness())
    assert "5 of 12 images done, none failed, 7 not run yet: the run is not finished" in (
        tmp_path / "report.md"
    ).read_text().replace("\\", "")


def without_times(path: Path) -> str:
    """A report without its durations, which are the only thing in it that differs from run to run."""
    text = re.sub(r"\b\d[\d.,]*\\? (ms|s|min)\b", "TIME", path.read_text("utf-8"))
    return re.sub(r"(TIME)(</td><td>| \| )\d+%", r"\1\2SHARE", text)


def test_no_path_and_no_time_of_the_machine_is_in_a_report(tmp_path: Path):
    (tmp_path / "weights").mkdir()
    named = model(name=str(tmp_path / "weights"))
    paths = write_report(run_pictures(tmp_path / "a", model=named), Brightness())
    for path in paths:
        assert str(tmp_path).encode() not in path.read_bytes()
    again = write_report(run_pictures(tmp_path / "b", model=named, batch=2), Brightness())
    for path, other in zip(paths, again, strict=True):
        if path.suffix in (".md", ".html"):
            assert without_times(path) == without_times(other), path.name
        else:
            assert path.read_bytes() == other.read_bytes(), path.name


def test_the_json_holds_the_numbers_and_what_they_rest_on(tmp_path: Path):
    write_report(run_pictures(tmp_path, protocol=Ratio()), Ratio(), "rollout", resamples=40)
    text = (tmp_path / "results.json").read_text()
    stored = json.loads(text, parse_constant=pytest.fail)
    assert stored["reference"] == "rollout"
    assert stored["higher_is_better"] is False
    assert stored["settings"]["protocol"] == {"name": "ratio", "scale": 1.0, "sizes": [2, 2]}
    assert stored["settings"]["seed"] == 0
    assert {"versions", "hardware"} <= set(stored["installations"][0])
    first, reference, _ = stored["methods"]
    assert set(first["headline"]) == {"estimate", "low", "high"}
    assert {"difference", "paired", "p_holm"} <= set(first)
    assert {"difference", "paired", "p_holm"}.isdisjoint(reference)
    assert first["figures"]["curve"] == [0.5, 1.0]
    assert len(text) < 20_000


def test_wrong_references_and_protocols_are_named(tmp_path: Path):
    done = run_pictures(tmp_path)
    with pytest.raises(NotFoundError, match="no method 'rolout' in this run; nearest: 'rollout'"):
        write_report(done, Brightness(), "rolout")
    with pytest.raises(InputError, match="the run is of protocol 'brightness', not of 'ratio'"):
        write_report(done, Ratio())


def test_numbers_read_well():
    assert [number(x) for x in (0.71234, 0.0, 1234567, 1e-5, 2.5e6, float("nan"), None, True, "x")] == [
        "0.7123", "0.0000", "1,234,567", "1e-05", "2.5e+06", "–", "–", "yes", "x",
    ]  # fmt: skip
    assert bounds(Interval(0.5, 0.25, 0.75)) == "0.5000 [0.2500, 0.7500]"
    assert bounds(Interval(0.5, 0.25, 0.75), sign=True).startswith("+0.5000")
    assert bounds(Interval(0.5, float("nan"), float("nan"))) == "0.5000"
    assert bounds(None) == "–"
    assert probability(0.000123) == "0.00012"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot read '/home/me/data set/a b.jpg': broken", "cannot read 'a b.jpg': broken"),
        ("cannot read '/home/me/data/': broken", "cannot read 'data': broken"),
        (r"cannot read 'C:\data\a.jpg'", "cannot read 'a.jpg'"),
        ("[Errno 2] No such file: /mnt/x/y.png", "[Errno 2] No such file: y.png"),
        ("model facebook/dinov2-base, 3/4 of it", "model facebook/dinov2-base, 3/4 of it"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
    ],
)
def test_messages_keep_names_and_lose_folders(text: str, expected: str):
    assert without_paths(text) == expected
