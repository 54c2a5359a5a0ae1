"""``diffusers:OWNER/NAME``: a pipeline from the hub's cache, with classes of diffusers and transformers alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tokenrank as tr
from tokenrank.errors import InputError, NotFoundError

pytest.importorskip("diffusers")

from tests.diffusion import pipelines

COMMITS = "a" * 40, "b" * 40
READ = """
import sys, tokenrank as tr
for name in sys.argv[1:]:
    try:
        model = tr.load(name)
        print(model.name, model.commit, type(model.pipeline).__name__, model.pipeline.transformer is model.module)
    except tr.errors.TokenRankError as error:
        print(type(error).__name__, error)
"""


def read(cache: Path, *names: str) -> list[str]:
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", "-c", READ, *names]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=240
    ).stdout.splitlines()


def test_pipelines_are_read_from_the_cache(tmp_path: Path) -> None:
    """Of the commit that was asked for; code that an index names is refused, and what is not there named."""
    place = tmp_path / "models--someone--flux"
    (place / "refs").mkdir(parents=True)
    good, other = (place / "snapshots" / commit for commit in COMMITS)
    pipelines.flux(tmp_path).save_pretrained(good)
    other.mkdir()
    index = json.loads((good / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps(index | {"transformer": ["mine", "MyTransformer"]}))
    (other / "mine.py").write_text("raise SystemExit('code of a model ran')")
    (place / "refs" / "main").write_text(COMMITS[0])
    found, tagged, code, absent = read(
        tmp_path, "diffusers:someone/flux", f"diffusers:someone/flux@{COMMITS[0]}",
        f"diffusers:someone/flux@{COMMITS[1]}", "diffusers:someone/none",
    )  # fmt: skip
    assert found == f"diffusers:someone/flux {COMMITS[0]} FluxPipeline True"
    assert tagged == f"diffusers:someone/flux@{COMMITS[0]} {COMMITS[0]} FluxPipeline True"
    assert code.startswith("InputError 'transformer' of model folder")
    assert "no other code is run" in code
    assert absent.startswith("NotFoundError model 'someone/none' is not on this machine")


@pytest.mark.parametrize(
    "name", ["diffusers:", "diffusers:flux", "diffusers:./a/b", "diffusers:a/b/c", "diffusers:a/b@"]
)
def test_what_is_no_name_on_the_hub_is_refused(name: str) -> None:
    with pytest.raises(NotFoundError, match="expected diffusers:OWNER/NAME"):
        tr.load(name)


def test_options_that_a_pipeline_does_not_have() -> None:
    with pytest.raises(InputError, match="leave size out"):
        tr.load("diffusers:someone/flux", size=512)
