"""The arithmetic of the page: the kernel is made of its text, and answers are those of float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.explorer import golden, nodes
from tokenrank.explorer import module

pytestmark = pytest.mark.node


def test_the_kernel_is_made_of_its_text() -> None:
    """Bytes of kernel.wasm are those that wasmtime's ``wat2wasm`` makes of kernel.wat."""
    wasmtime = pytest.importorskip("wasmtime")
    made = bytes(wasmtime.wat2wasm((module.PAGE / "kernel.wat").read_text(encoding="utf-8")))
    assert made == (module.PAGE / "kernel.wasm").read_bytes()
    assert len(made) < 2500


def test_exponentials_are_right_to_single_precision() -> None:
    """Softmax of (0, x, …) for x from 0 down to −80; below −87, where e^x leaves the normal numbers, zero."""
    wasmtime = pytest.importorskip("wasmtime")
    store = wasmtime.Store()
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, (module.PAGE / "kernel.wasm").read_bytes()), [])
    exports, n = instance.exports(store), 8000
    memory, softmax = exports["memory"], exports["softmax"]
    memory.grow(store, 4)
    rng = np.random.default_rng(0)
    worst = 0.0
    for depth in (0.3, 1.0, 10.0, 80.0):
        x = np.append(0, -depth * rng.random(n - 1)).astype("<f4")
        memory.write(store, x.tobytes(), 0)
        memory.write(store, bytes(4 * n), 65536)
        total = softmax(store, 0, n, 65536, 1.0)
        found = np.frombuffer(memory.read(store, 65536, 65536 + 4 * n), "<f4").astype("f8")
        right = np.exp(x.astype("f8"))
        assert total == pytest.approx(right.sum(), rel=3e-8)
        worst = max(worst, float(np.abs(found / (right / right.sum()) - 1).max()))
    assert worst < 3e-7
    memory.write(store, np.array([0, -87.5, -200, -1e30], "<f4").tobytes(), 0)
    memory.write(store, bytes(16), 65536)
    assert softmax(store, 0, 4, 65536, 1.0) == 1
    assert np.frombuffer(memory.read(store, 65536, 65552), "<f4").tolist() == [1, 0, 0, 0]


def test_walks_and_limits_are_those_of_float64(tmp_path: Path) -> None:
    cases = golden.write(tmp_path)
    said = nodes.run("golden.test.js", TOKENRANK_GOLDEN=str(tmp_path))
    assert all(f"# Subtest: {case.name}" in said for case in cases)


def test_right_answers_are_those_of_the_library() -> None:
    """What the engine is held to is what ``chain.restrict``, ``teleport``, ``reverse`` and ``tokenrank`` say."""
    import tokenrank as tr

    for case in golden.cases():
        n = case.matrices.shape[-1]
        if n > 300:
            continue
        chain = tr.AttentionChain(case.matrices).aggregate(_weights(case))
        kept = list(range(n)) if case.keep is None else case.keep
        chain = chain.restrict(kept) if case.keep is not None else chain
        start = np.zeros(len(kept))
        start[[kept.index(token) for token in case.starts]] = 1 / len(case.starts)
        for backward in (False, True):
            for alpha in case.alphas:
                maps, limit = golden.walks(case.matrix, start, alpha, backward)
                towards = chain.reverse() if backward else chain
                walked = towards.teleport(alpha).bounce(start, n=20, path=True).values
                np.testing.assert_allclose(walked, maps, atol=1e-9, err_msg=case.name)
                direction = "backward" if backward else "forward"
                rank = chain.tokenrank(alpha=alpha, direction=direction, tol=1e-9).values
                np.testing.assert_allclose(rank, limit, atol=1e-7, err_msg=f"{case.name}, {direction}, {alpha}")


def test_limits_alone() -> None:
    """Substitution and extrapolation without the steps that follow them."""
    nodes.run("limit.test.js")


def test_what_the_page_asks_and_gets() -> None:
    """Newest requests win, hosts without workers or WebAssembly, damaged layers, memory."""
    nodes.run("calculator.test.js")


def _weights(case: golden.Case) -> list[float]:
    weights = dict(case.heads)
    return [weights.get(head, 0.0) for head in case.stored["heads"]]
