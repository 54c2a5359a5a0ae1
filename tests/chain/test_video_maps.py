"""Maps of videos."""

import pytest
import torch

from tokenrank import TokenLayout
from tokenrank.chain.token_map import TokenMap
from tokenrank.errors import LayoutError


def test_maps_of_videos(tmp_path):
    layout = TokenLayout.video(2, 3, 4, cls_tokens=1)
    values = torch.rand(5, 25)
    m = TokenMap(values, layout)
    assert torch.equal(m.grid(), values[:, 1:].reshape(5, 2, 3, 4))
    assert m.upsample((6, 8)).shape == (5, 2, 6, 8)
    assert torch.equal(m.mask(), m.grid() > m.grid().mean((1, 2, 3), keepdim=True))
    assert m[0].figure()
    assert m[0].save(tmp_path / "a.png").exists()
    with pytest.raises(LayoutError, match="2 frames"):
        m[0].overlay(torch.zeros(3, 8, 8))
