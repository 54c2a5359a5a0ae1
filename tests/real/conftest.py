"""Networks that people use, in the folder that TOKENRANK_NETWORKS names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tokenrank as tr
from tokenrank.models import Model

VARIABLE = "TOKENRANK_NETWORKS"


def network(name: str) -> Path:
    """The folder of a network; the test is skipped where nobody said where networks are, and fails where they said so
    and this one is not there.
    """
    command = f"python -m benchmarks.networks {name} FOLDER/{name}"
    given = os.environ.get(VARIABLE)
    if not given:
        pytest.skip(f"make the network with `{command}` and set {VARIABLE}=FOLDER")
    folder = Path(given) / name
    if not (folder / "config.json").is_file():
        pytest.fail(f"{VARIABLE}={given} holds no {name}; make it with `{command}`", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def dinov2() -> Model:
    return tr.load(network("dinov2-small"))


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    return network("minilm")


@pytest.fixture(scope="session")
def minilm(minilm_folder: Path) -> Model:
    return tr.load(minilm_folder)
