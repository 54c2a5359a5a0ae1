"""The example of a sequence over processes, as its first lines say to start it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_it_runs_on_processors() -> None:
    start = [
        "--nproc-per-node",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "127.0.0.1:0",
        "--local-addr",
        "127.0.0.1",
    ]
    script = [str(ROOT / "examples/long_sequence.py"), "--tokens", "1100", "--causal", "--check", "--timeout", "60"]
    paths = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-m", "torch.distributed.run", *start, *script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "1100 tokens, 2 heads on 2 ranks, 550 tokens on this one" in done.stdout
    bound = re.search(r"error ≤ (\S+)", done.stdout)
    off = re.search(r"on one device: the same to (\S+)", done.stdout)
    assert bound is not None
    assert off is not None
    assert float(off[1]) <= 2e-4
    assert float(bound[1]) <= 1e-4
