"""Attention over channels is no attention over tokens."""

from __future__ import annotations

import pytest
import torch

from tokenrank.errors import LayoutError
from tokenrank.trace import capture

timm = pytest.importorskip("timm")


@pytest.mark.parametrize("size", [32, 64])
def test_channels_are_refused_and_can_be_had(size: int) -> None:
    model = timm.create_model("xcit_nano_12_p8_224", pretrained=False, img_size=size, depth=2).eval()
    with torch.no_grad(), capture(model) as trace:
        model(torch.randn(1, 3, size, size))
    with pytest.raises(LayoutError, match=r"'blocks\.0\.attn' is over 32 channels a head.*trace\.layout = False"):
        trace["blocks.0"]
    trace.layout = False
    assert trace["blocks.0"].num_tokens == 32


def test_tokens_are_not_taken_for_channels() -> None:
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=32, patch_size=8, depth=1).eval()
    with torch.no_grad(), capture(model) as trace:
        model(torch.randn(1, 3, 32, 32))
    assert trace[0].layout is not None
