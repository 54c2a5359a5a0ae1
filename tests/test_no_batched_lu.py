"""No batch of LU anywhere: PyTorch's is wrong, or never ends, on a CPU beyond 150 rows (pytorch#142815)."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import tokenrank as tr
from tokenrank import AttentionChain

SOURCE = Path(tr.__file__).parent
HOME = SOURCE / "markov" / "engine" / "lu.py"
LU = {
    *("solve", "solve_ex", "inv", "inv_ex", "inverse", "det", "logdet", "slogdet", "cond", "tensorsolve", "tensorinv"),
    *("lu", "lu_factor", "lu_factor_ex", "lu_solve", "lu_unpack", "ldl_factor", "ldl_factor_ex", "ldl_solve"),
}


def torch_calls(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, name) of the calls on PyTorch, or on what may be a tensor, whose name is that of an LU."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            found += [(node.lineno, a.name) for a in node.names if a.name in LU]
        if not isinstance(node, ast.Attribute) or node.attr not in LU:
            continue
        owner = ast.unparse(node.value)
        # methods of tensors whose names are no common words, and functions of torch
        if (
            owner.startswith("torch")
            or owner.endswith("linalg")
            or node.attr in {"inverse", "logdet", "slogdet", "det"}
        ):
            found.append((node.lineno, f"{owner}.{node.attr}"))
    return found


def powers(tree: ast.AST) -> list[int]:
    """Lines of matrix powers with an exponent that is written as negative."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "matrix_power"
        and any(isinstance(a, ast.UnaryOp) and isinstance(a.op, ast.USub) for a in node.args)
    ]


def test_lu_is_called_in_one_file_only() -> None:
    files = [file for file in SOURCE.rglob("*.py") if file != HOME]
    assert len(files) > 40
    trees = {file: ast.parse(file.read_text()) for file in files}
    found = [
        f"{file.relative_to(SOURCE)}:{line} {name}" for file, tree in trees.items() for line, name in torch_calls(tree)
    ]
    found += [f"{file.relative_to(SOURCE)}:{line} A⁻ᵏ" for file, tree in trees.items() for line in powers(tree)]
    assert not found, found
    assert torch_calls(ast.parse(HOME.read_text())), "the search finds nothing where there is something"


@pytest.mark.parametrize(
    "line",
    ["torch.linalg.solve(a, b)", "torch.inverse(a)", "a.inverse()", "linalg.inv_ex(a)", "from torch.linalg import inv"],
)
def test_the_search_sees(line: str) -> None:
    assert torch_calls(ast.parse(line))


KERNELS = ("_lu", "linalg_solve", "linalg_inv", "_det", "slogdet", "aten::inverse", "linalg_ldl")


class Refuse(TorchDispatchMode):
    """No kernel of LU may be given more than one matrix."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if "triangular" not in name and any(kernel in name for kernel in KERNELS):
            batch = max(t.shape[:-2].numel() for t in args if isinstance(t, Tensor) and t.ndim > 1)
            assert batch == 1, f"{name} of {batch} matrices"
        return func(*args, **(kwargs or {}))


def test_the_refusal_refuses() -> None:
    many = torch.eye(3).expand(4, 3, 3).clone()
    for call in (torch.linalg.inv, torch.linalg.det, torch.linalg.lu_factor, lambda m: torch.linalg.solve(m, m)):
        with pytest.raises(AssertionError, match="of 4 matrices"), Refuse():
            call(many)


QUESTIONS: dict[str, Callable[[AttentionChain], object]] = {
    "tokenrank": lambda c: c.tokenrank(),
    "tokenrank alpha=1": lambda c: c.tokenrank(alpha=1.0),
    "tokenrank backward": lambda c: c.tokenrank(direction="backward"),
    "lambda2": lambda c: c.lambda2(),
    "spectrum": lambda c: c.spectrum(4, left=True),
    "absorption": lambda c: c.absorption({"a": [0, 1], "b": [5]}),
    "hitting_times": lambda c: c.hitting_times(3),
    "mean_first_passage": lambda c: c.mean_first_passage(),
    "fundamental": lambda c: c.fundamental(torch.rand(c.num_tokens, 2, dtype=torch.float64)),
    "kemeny": lambda c: c.kemeny(),
    "mixing": lambda c: c.mixing_time(),
    "quasi_stationary": lambda c: c.quasi_stationary(0),
    "stationary_distributions": lambda c: c.stationary_distributions(),
    "metastable": lambda c: c.metastable(3),
    "metastable without k": lambda c: c.metastable(),
    "censor": lambda c: c.restrict(list(range(4, c.num_tokens)), how="censor").to_dense(),
    "half_life": lambda c: c.half_life(3),
    "sinks": lambda c: c.sinks(),
    "classes": lambda c: c.classes(),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_question_asks_for_a_batch(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 3, 136, 8, generator=generator, dtype=torch.float64)
    weights = torch.softmax(2 * q @ k.mT / 8**0.5, -1)
    chain = AttentionChain(weights)
    with Refuse():
        QUESTIONS[name](chain)
