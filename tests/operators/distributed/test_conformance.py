"""The contract of all operators, on two and four ranks: each test runs on every rank at the same time."""

from __future__ import annotations

import inspect
import traceback

import pytest
import torch

from .cases import CASES
from .ranks import Ranks

TESTS = 25  # of the contract, at least


def conform(name: str) -> tuple[int, list[str]]:
    """How many tests of the contract a case went through, and those that it failed, with why."""
    ran, failures, case = 0, [], CASES[name]()
    tests = [test for test in dir(case) if test.startswith("test_")]
    for batch, dtype in case.variants:
        torch.manual_seed(0)
        operator, dense = case.make(batch, dtype)
        given = {"operator": operator, "dense": dense, "dtype": dtype}
        for test in tests:
            with pytest.MonkeyPatch.context() as patch:
                torch.manual_seed(1)
                given |= {"x": torch.randn(*dense.shape[:-1], 3, dtype=dtype), "monkeypatch": patch}
                method = getattr(case, test)
                ran += 1
                try:
                    method(**{key: given[key] for key in inspect.signature(method).parameters})
                except Exception:
                    failures.append(f"{test}, {batch}, {dtype}: {traceback.format_exc()}")
    return ran, failures


@pytest.mark.parametrize("name", CASES)
def test_the_contract(ranks: Ranks, name: str) -> None:
    case = CASES[name]
    for rank, (ran, failures) in enumerate(ranks.run(conform, name, ranks=range(case.size))):
        assert ran >= TESTS * len(case.variants)
        assert not failures, f"rank {rank}, {len(failures)} failures: {failures[0]}"
