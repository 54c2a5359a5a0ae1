from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from tests.tiny import SENTENCE, save_bert, save_vit
from tokenrank import at
from tokenrank.analysis import Analysis, analyze
from tokenrank.models import Model, load


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(save_vit(tmp_path_factory.mktemp("vit")))


@pytest.fixture(scope="session")
def picture() -> PIL.Image.Image:
    """60 × 40 pixels: red on the left, blue on the right."""
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, :30, 0] = 200
    pixels[:, 30:, 2] = 200
    return PIL.Image.fromarray(pixels)


@pytest.fixture(scope="session")
def of_picture(vit: Model, picture: PIL.Image.Image) -> Analysis:
    return analyze(picture, model=vit, start=at(0.9, 0.1))


@pytest.fixture(scope="session")
def of_text(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyze(SENTENCE, model=load(save_bert(tmp_path_factory.mktemp("bert"))), start="cat")
