from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.evaluate.reproduce_cases import IMAGES, save_data, save_models
from tokenrank.cli.evaluate import SOME_FAILED
from tokenrank.cli.reproduce import OFF, reproduce
from tokenrank.evaluate.reproduce import EXPERIMENTS, Figure, registry
from tokenrank.evaluate.runner.folder import read_record, write_record

Ran = Callable[..., Result]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save_data(tmp_path / "data")


@pytest.fixture
def command() -> Ran:
    app = typer.Typer()
    app.command()(reproduce)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_without_a_name_all_experiments_are_listed_with_source_and_command(command: Ran):
    result = command()
    assert result.exit_code == 0
    for experiment in EXPERIMENTS.values():
        assert f"{experiment.name}: {experiment.claim}" in result.stdout
        assert experiment.source in result.stdout
        assert experiment.command in result.stdout


def test_files_are_printed_and_checks_said(command: Ran, folders: dict[str, Path], data: Path, tmp_path: Path):
    models = ",".join(str(folders[name]) for name in EXPERIMENTS["structure"].models)
    result = command(
        "structure", "--data", data / "ecssd", "--model", models, "--out", tmp_path / "out", "--resamples", 10
    )
    assert result.exit_code == 0, result.stderr
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert all(path.is_file() for path in paths)
    assert paths[-1] == tmp_path / "out/outcome.json"
    assert "gain of bounce:n=2:heads=uniform over raw_row:heads=uniform in iou" in result.stderr
    assert f"{IMAGES} of {IMAGES} images done, 0 failed" in result.stderr


def test_the_same_command_goes_on(command: Ran, folders: dict[str, Path], data: Path, tmp_path: Path):
    folder = folders["facebook/dinov2-with-registers-base"]
    arguments = ["bounces", "--data", data / "ecssd", "--model", folder, "--out", tmp_path / "out", "--resamples", 10]
    first, again = command(*arguments), command(*arguments)
    assert again.exit_code == 0, again.stderr
    assert "3 of 3 images were done before" in again.stderr
    assert again.stdout == first.stdout


def test_other_versions_go_on_where_they_are_allowed(
    command: Ran, folders: dict[str, Path], data: Path, tmp_path: Path
):
    folder, out = folders["facebook/dinov2-with-registers-base"], tmp_path / "out"
    arguments = ["bounces", "--data", data / "ecssd", "--model", folder, "--out", out, "--resamples", 10]
    assert command(*arguments).exit_code == 0
    record = read_record(out / "run-1")
    record["runs"][0]["versions"]["torch"] = "1.0"
    write_record(out / "run-1", record)
    refused = command(*arguments)
    assert refused.exit_code == 1
    assert "torch was 1.0, now " in refused.stderr
    assert command(*arguments, "--other-versions").exit_code == 0


@pytest.mark.parametrize("name", ["run-1", "outcome.json"])
def test_links_are_refused(command: Ran, data: Path, tmp_path: Path, name: str):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to("../theirs")
    result = command("bounces", "--data", data / "ecssd", "--model", "nowhere", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{name}' is a link, which is not followed" in result.stderr
    assert not list((tmp_path / "theirs").iterdir())


def test_a_figure_beyond_its_tolerance_ends_in_4(
    command: Ran, folders: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    figure = Figure("bounce:n=2:heads=uniform", "iou", 0.999, 0.0005, "V")
    experiment = replace(EXPERIMENTS["bounces"], images=IMAGES, expected=(figure,))
    monkeypatch.setitem(registry.EXPERIMENTS, "bounces", experiment)
    folder = folders[experiment.models[0]]
    result = command("bounces", "--data", data / "ecssd", "--model", folder, "--out", tmp_path, "--resamples", 10)
    assert result.exit_code == OFF == 4
    assert "1 of 1 checks differ from what is published" in result.stderr
    assert json.loads((tmp_path / "outcome.json").read_text("utf-8"))["agrees"] is False


def test_failed_images_end_in_3(command: Ran, folders: dict[str, Path], data: Path, tmp_path: Path):
    picture = data / "ecssd/images/0002.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    folder = folders["facebook/dinov2-with-registers-base"]
    result = command("bounces", "--data", data / "ecssd", "--model", folder, "--out", tmp_path, "--resamples", 10)
    assert result.exit_code == SOME_FAILED == 3
    assert "1 images failed" in result.stderr


def test_an_experiment_that_there_is_not_ends_in_2(command: Ran):
    result = command("bounce")
    assert result.exit_code == 2
    assert "no experiment 'bounce'; nearest: 'bounces' (12 in all)" in result.stderr


def test_what_is_missing_is_one_line_and_ends_in_1(command: Ran, tmp_path: Path):
    result = command("bounces", "--data", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: experiment 'bounces' cannot start: data set ecssd is looked for in ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
