from __future__ import annotations

import PIL.Image
import pytest

from tokenrank import samples
from tokenrank.errors import NotFoundError
from tokenrank.models import read_image


def test_every_sample_is_a_small_rgb_jpeg_with_a_start() -> None:
    assert samples.names() == tuple(sorted(samples.names()))
    assert sum(samples.path(n).stat().st_size for n in samples.names()) < 400_000
    for name in samples.names():
        with PIL.Image.open(samples.path(name)) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert not image.getexif()
        assert 440 <= max(read_image(samples.path(name)).size) <= 480
        assert 0.2 < samples.start(name).x < 0.8


def test_every_picture_in_the_folder_is_listed_with_its_licence() -> None:
    folder = samples.path("coffee").parent
    assert sorted(p.stem for p in folder.glob("*.jpg")) == list(samples.names())
    licences = (folder / "LICENSES.md").read_text(encoding="utf-8")
    assert all(f"`{name}.jpg`" in licences for name in samples.names())


def test_unknown_sample() -> None:
    for ask in (samples.path, samples.start):
        with pytest.raises(NotFoundError, match="no sample 'cofee'; nearest: 'coffee'"):
            ask("cofee")
