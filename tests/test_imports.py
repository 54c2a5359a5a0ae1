"""What a first use takes along: a fresh interpreter, and nothing that only other uses need."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = [
    "torch._dynamo",  # PyTorch's compiler: longer to import than PyTorch itself
    "torch._inductor",
    "torch.distributed.fsdp",
    "torch.nn.attention.bias",
    "torch.nn.attention.flex_attention",
    "sympy",
    "matplotlib",
    "transformers",
    "timm",
    "diffusers",
    "torchvision",
    "scipy",
    "sklearn",
    "pandas",
    "typer",
    "rich",
]
USES = {
    "import": "",
    "chain": "tr.AttentionChain(torch.eye(3)).bounce(0)",
    "from_qk": "tr.AttentionChain.from_qk(q, k).bounce(0, n=2, direction='backward')",
    "answers": "c = tr.AttentionChain.from_qk(q, k); c.tokenrank(); c.lambda2(); c.aggregate().restrict([0, 1])",
    "layout": "tr.AttentionChain(torch.eye(3), tr.TokenLayout({'text': 3}))",
}


@pytest.mark.parametrize("use", USES)
def test_first_use(use: str) -> None:
    script = (
        "import json, sys, torch\n"
        f"heavy = [name for name in {HEAVY!r} if name not in sys.modules]\n"
        "import tokenrank as tr\n"
        "q, k = torch.randn(2, 4, 8, 4)\n"
        f"{USES[use]}\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
