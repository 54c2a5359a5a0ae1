"""Which kernel PyTorch takes for which widths, dtypes and biases, and what it costs."""

from __future__ import annotations

import warnings
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .floors import Floors
from .record import Record, floored, measured
from .sizes import Size

BACKENDS = {
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
WIDTHS = ((64, 64), (65, 65), (72, 8), (64, 8), (128, 128), (129, 129), (136, 136), (128, 8), (132, 4))
"""Of queries and keys, and of values."""


def kernel_map(record: Record, floors: Floors, size: Size, small: bool) -> None:
    """Default choice and each backend by itself; a backend that refuses is a row that says so, and no failure."""
    for dtype in (torch.bfloat16, torch.float32):
        for wide, values in WIDTHS[:3] if small else WIDTHS:
            q, k = (torch.randn(1, size.heads, size.tokens, wide, device=record.device).to(dtype) for _ in range(2))
            v = torch.randn(1, size.heads, size.tokens, values, device=record.device).to(dtype)
            floor = 2 * size.heads * size.tokens**2 * (wide + values) / floors.rate(dtype)
            label = f"{str(dtype).removeprefix('torch.')}, q, k {wide} wide, v {values}"
            run = partial(F.scaled_dot_product_attention, q, k, v)
            record.attempt(
                f"{label}, default",
                lambda run=run, floor=floor: floored(
                    measured(record.clock.timed(run), kernel=_kernel(record.device, run)), floor, "products"
                ),
            )
            if record.device.type == "cuda" and wide in (64, 72, 128, 136):
                for name, backend in BACKENDS.items():
                    record.attempt(f"{label}, {name}", partial(_alone, record, backend, q, k, v))
    bias = torch.randn(1, size.heads, 1, size.tokens, device=record.device, dtype=torch.bfloat16)
    q = torch.randn(1, size.heads, size.tokens, WIDTHS[0][0], device=record.device).to(torch.bfloat16)
    mask = bias.expand(1, size.heads, size.tokens, size.tokens)
    record.attempt(
        "bfloat16, 64 wide, a bias of keys, expanded",
        lambda: measured(record.clock.timed(lambda: F.scaled_dot_product_attention(q, q, q, mask))),
    )


def _alone(record: Record, backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> dict[str, object]:
    def run() -> Tensor:
        with sdpa_kernel(backend), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return F.scaled_dot_product_attention(q, k, v)

    try:
        return measured(record.clock.timed(run))
    except RuntimeError as error:
        return {"refused": str(error).split("\n")[0][:120]}


def _kernel(device: torch.device, run: partial[Tensor]) -> str:
    """The name of the kernel that takes longest."""
    if device.type != "cuda":
        return "of the host"
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        run()
        torch.cuda.synchronize(device)
    found = sorted(seen.events() or (), key=lambda event: -float(getattr(event, "device_time_total", 0.0)))
    return str(found[0].name)[:80] if found else "unknown"
