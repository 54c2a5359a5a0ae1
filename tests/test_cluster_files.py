"""Files for clusters (docs/howto/cluster/): linters accept them, and they name what the commands have."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tokenrank.cli import app

FOLDER = Path(__file__).parents[1] / "docs/howto/cluster"
KUBERNETES = "1.31"


def job() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason='no PyYAML: pip install "tokenrank[dev]"')
    return yaml.safe_load((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))


def test_yaml_has_no_fault() -> None:
    config = pytest.importorskip("yamllint.config", reason='no yamllint: pip install "tokenrank[dev]"')
    linter = pytest.importorskip("yamllint.linter")
    rules = config.YamlLintConfig("extends: default\nrules: {line-length: {max: 120}}")
    for file in FOLDER.glob("*.yaml"):
        problems = list(linter.run(file.read_text(encoding="utf-8"), rules))
        assert not problems, (file, problems)
    broken = "a: 1\na:  2\n"
    assert list(linter.run(broken, rules))


def test_shell_has_no_fault() -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip('no shellcheck: pip install "tokenrank[dev]"')
    for file in FOLDER.glob("*.sh"):
        ran = subprocess.run(
            [shellcheck, "--enable=all", "--exclude=SC2250,SC2312", file], capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout
    ran = subprocess.run([shellcheck, "-"], input="#!/bin/bash\nrm -rf $1\n", capture_output=True, text=True)
    assert ran.returncode == 1


def templates() -> dict[str, Any]:
    spec = job()["spec"]["rayClusterSpec"]
    groups = {"head": spec["headGroupSpec"], **{group["groupName"]: group for group in spec["workerGroupSpecs"]}}
    return {name: group["template"] for name, group in groups.items()}


def test_pods_are_those_of_kubernetes() -> None:
    """Templates of pods, strictly; RayJob itself is no kind of Kubernetes', and its schema is in no package."""
    validate = pytest.importorskip("kubernetes_validate", reason='no kubernetes-validate: pip install "tokenrank[dev]"')
    for name, template in templates().items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}
        validate.validate(pod, KUBERNETES, strict=True)
        pod["spec"]["containers"][0]["resource"] = {}
        with pytest.raises(validate.ValidationError):
            validate.validate(pod, KUBERNETES, strict=True)


def test_mounts_have_their_volumes_and_the_image_its_version() -> None:
    for template in templates().values():
        (container,) = template["spec"]["containers"]
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in template["spec"]["volumes"]}
    assert job()["kind"] == "RayJob"


@pytest.mark.parametrize("name", ["rayjob.yaml", "slurm.sh"])
def test_options_are_those_of_the_command(name: str) -> None:
    group: Any = typer.main.get_command(app)
    known = {option for parameter in group.commands["evaluate"].params for option in parameter.opts}
    text = (FOLDER / name).read_text(encoding="utf-8")
    lines = re.findall(r"tokenrank (?:evaluate |\"\$@\")[^\n]*(?:\n    --[^\n]*)*", text)
    assert lines
    used = {option for line in lines for option in re.findall(r"(?<=\s)--[a-z-]+", line)}
    assert {"--engine", "--address", "--gpus"} <= used
    assert used <= known
