"""Real heads on the path of GPUs: fused kernels take all of them, and half precision is as good as it should be."""

from __future__ import annotations

import pytest
import torch

import tokenrank as tr
from tokenrank.models import Model
from tokenrank.operators import QueryKey, from_query_key
from tokenrank.operators.device import products
from tokenrank.operators.device.scaled import Weighted

pytestmark = pytest.mark.real


# float16 has the range of its weights from moving the keys, whose rounding costs it more than bfloat16 loses anyway
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 2e-5), (torch.bfloat16, 3e-3), (torch.float16, 1e-2)])
def test_no_head_of_dinov2_needs_chunks_of_rows(dinov2: Model, dtype: torch.dtype, most: float) -> None:
    """Normalisers are up to 150 nats apart; what is not linear in the queries is not."""
    observation = tr.observe(tr.samples.path("astronaut"), dinov2, size=224)
    widest = 0.0
    for layer in observation.layers:
        given = observation.head_chains(layer, tokens="all").operator
        assert isinstance(given, QueryKey)
        chain = from_query_key(given.q.to(dtype), given.k.to(dtype), given.scale, None, False, "device")
        wide = from_query_key(chain.q.double(), chain.k.double(), given.scale, None, False)  # type: ignore[attr-defined]
        r = wide.log_normalisers()  # type: ignore[attr-defined]
        widest = max(widest, float((r.amax(-1) - r.amin(-1)).amax()))
        a, x = wide.to_dense(), torch.full((*chain.shape[:-1], 1), 1 / chain.num_tokens)
        exact = a.mT @ x.double()
        off = [float((products.back(chain, x, rough) - exact).abs().sum(-2).amax()) for rough in (False, True)]
        assert off[0] <= min(2e-5, float(chain.row_error(torch.float32).amax()))
        assert off[1] <= most
        assert isinstance(chain._weighted["back", torch.float32], Weighted)  # type: ignore[attr-defined]
    assert widest > 80
