"""What a first use takes along: a fresh interpreter, and nothing that only other uses need.

Beside what PyTorch imports itself. Seconds are measured by ``benchmarks/imports.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ELSEWHERE = ["ray", "triton", "diffusers", "timm", "matplotlib", "sklearn", "pandas", "typer", "rich", "pyarrow"]
HEAVY = [
    "torch._dynamo",  # PyTorch's compiler: longer to import than PyTorch itself
    "torch._inductor",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.nn.attention.bias",
    "torch.nn.attention.flex_attention",
    "sympy",
    "transformers",
    "torchvision",
    "scipy",
    *ELSEWHERE,
]
CHAINS = {
    "chain": "tr.AttentionChain(torch.eye(3)).bounce(0)",
    "from_qk": "chain = tr.AttentionChain.from_qk(q, k); chain.bounce(0, n=2, direction='backward')",
    "masks": "masked = tr.AttentionChain.from_qk(q, k, mask=torch.ones(8, 8).tril().bool()); masked.tokenrank()",
    "tokenrank": "chain.tokenrank(); masked.tokenrank(alpha=1.0)",
    "lambda2": "chain.lambda2(); chain.aggregate().restrict([0, 1]).lambda2(); masked.lambda2()",
    "questions": "chain.spectrum(3); chain.metastable(); masked.classes(); chain.hitting_times(0); chain.kemeny()",
    "layout": "tr.AttentionChain(torch.eye(3), tr.TokenLayout({'text': 3}))",
    "names": "[getattr(tr, name) for name in tr.__all__ if name not in ('baselines', 'evaluate', 'tasks', 'view')]",
    "files": "tr.from_query_key({'a': (q[None], k[None])}).save(file); tr.load_trace(file)[0]",
}
BUNDLED = """
model = tr.load('bundled')
inputs = model.prepare(tr.samples.path('astronaut'))
with tr.capture(model) as trace:
    model.forward(inputs)
trace[9][0].tokenrank(), trace[9].lambda2()
"""


def fresh(script: str, *arguments: str) -> dict[str, list[str]]:
    """What ``script`` has put into ``told``, run in an interpreter of its own."""
    head = f"import json, sys\ntold = {{}}\n{script}\nprint(json.dumps(told))"
    done = subprocess.run([sys.executable, "-c", head, *arguments], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_package_and_the_help_of_the_command_take_no_torch_along() -> None:
    look = f"[name for name in {['torch', 'numpy', 'PIL', *HEAVY]!r} if name in sys.modules]"
    found = fresh(
        f"import tokenrank\ntold['import'] = {look}\n"
        "from tokenrank.cli import main\nsys.argv = ['tokenrank', '--help']\n"
        f"try:\n    main()\nexcept SystemExit:\n    told['help'] = {look}"
    )
    assert found["import"] == []
    assert set(found["help"]) <= {"typer", "rich"}


def test_no_question_takes_a_compiler_along(tmp_path) -> None:
    look = "[n for n in heavy if n in sys.modules]"
    stages = "\n".join(f"{code}\ntold[{name!r}] = {look}" for name, code in CHAINS.items())
    found = fresh(
        f"import torch\nheavy = [n for n in {HEAVY!r} if n not in sys.modules]\nfile = sys.argv[1]\n"
        f"import tokenrank as tr\nq, k = torch.randn(2, 4, 8, 4)\n{stages}",
        str(tmp_path / "trace.safetensors"),
    )
    assert found == {name: [] for name in CHAINS}


@pytest.mark.slow
def test_a_bundled_network_takes_nothing_along_but_its_library() -> None:
    """Classes of models of transformers import PyTorch's compiler, and torchvision where it is installed."""
    heavy = f"[n for n in {['torch', *ELSEWHERE, *HEAVY]!r} if n in sys.modules]"
    theirs = fresh(
        "from transformers import AutoImageProcessor, AutoModel\n"
        f"import transformers.models.dinov3_vit.modeling_dinov3_vit\ntold['all'] = {heavy}"
    )
    ours = fresh(f"import tokenrank as tr\n{BUNDLED}\ntold['all'] = {heavy}")
    assert set(ours["all"]) <= set(theirs["all"])
