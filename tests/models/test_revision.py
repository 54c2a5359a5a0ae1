"""``owner/name@revision``: that commit, tag or branch and no other, from the cache; the model knows its commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tokenrank as tr
from tests.tiny import save_bert
from tokenrank.errors import NotFoundError

COMMITS = {"a" * 40: 1.0, "b" * 40: 2.0}
READ = """
import sys, tokenrank as tr
for name in sys.argv[1:]:
    model = tr.load(name)
    weight = next(iter(model.module.parameters()))
    print(model.name, model.commit, round(float(weight.detach().abs().sum()), 3))
"""


def cache(folder: Path) -> dict[str, float]:
    """A hub's cache with one model at two commits, doubled in the second; commit → sum of its first weight."""
    place, sums = folder / "models--someone--bert", {}
    (place / "refs").mkdir(parents=True)
    source = save_bert(folder / "made")
    for commit, factor in COMMITS.items():
        module = tr.load(source).module
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(factor)
        snapshot = place / "snapshots" / commit
        shutil.copytree(source, snapshot)
        module.save_pretrained(snapshot)
        sums[commit] = round(float(next(iter(module.parameters())).detach().abs().sum()), 3)
    (place / "refs" / "main").write_text("b" * 40)
    (place / "refs" / "v1").write_text("a" * 40)
    return sums


def test_the_revision_that_was_asked_for_is_read(tmp_path: Path):
    sums = cache(tmp_path)
    names = ["someone/bert", "someone/bert@v1", f"someone/bert@{'b' * 40}", f"someone/bert@{'a' * 40}"]
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", READ, *names]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout
    commits = ["b" * 40, "a" * 40, "b" * 40, "a" * 40]
    wanted = [f"{name} {commit} {sums[commit]}" for name, commit in zip(names, commits, strict=True)]
    assert out.splitlines() == wanted


def test_a_folder_has_no_commit(tmp_path: Path):
    assert tr.load(save_bert(tmp_path / "model")).commit is None


@pytest.mark.parametrize("name", ["someone/bert@", "someone/bert@v 1", "bert@v1@v2", "someone/bert@../x y"])
def test_what_is_no_revision_is_no_model(name: str):
    with pytest.raises(NotFoundError):
        tr.load(name)
