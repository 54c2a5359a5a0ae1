from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenrank.attention_mask import allowed


@given(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]), st.floats(-20.0, 20.0))
@settings(max_examples=50)
def test_masked_is_what_models_add_and_no_bias(dtype: torch.dtype, bias: float) -> None:
    least = torch.finfo(dtype).min
    mask = torch.tensor([-torch.inf, least, 0.6 * least, bias, 0.0, -1e4], dtype=dtype)
    assert allowed(mask).tolist() == [False, False, False, True, True, True]
    assert torch.equal(allowed(allowed(mask)), allowed(mask))
