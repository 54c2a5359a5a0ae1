"""Several nodes on this machine, 10,000 pictures, and what dies in the middle; two minutes, with ``-m cluster``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas
import pytest

import tokenrank as tr
from tests.workers.cases import CRASH, Hungry, brightness, ray_alone, slow_brightness, write_pictures
from tokenrank.errors import ClusterError, TokenRankWarning
from tokenrank.workers.on_ray import RayEngine

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(find_spec("ray") is None, reason='no Ray: pip install "tokenrank[distributed]"'),
]
PICTURES, BATCH = 10_000, 40
STORE = 80 << 20


@pytest.fixture(autouse=True)
def _asked_for(request: pytest.FixtureRequest) -> None:
    if "cluster" not in request.config.option.markexpr:
        pytest.skip("two minutes: pytest -m cluster")


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A head without processors and two nodes with one each."""
    with ray_alone():
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
        try:
            for _ in range(2):
                try:
                    cluster.add_node(num_cpus=1, object_store_memory=STORE)
                except Exception:  # a busy machine took longer than the half minute that Ray waits
                    cluster.add_node(num_cpus=1, object_store_memory=STORE)
            yield cluster
        finally:
            cluster.shutdown()


DRIVER = """
import sys, tokenrank as tr
from tests.workers.cases import slow_brightness
paths = sorted(str(path) for path in __import__("pathlib").Path(sys.argv[1]).iterdir())
tr.map(paths, slow_brightness, model=None, engine="ray", address=sys.argv[3], out=sys.argv[2], batch=int(sys.argv[4]))
"""


def test_ten_thousand_pictures_while_workers_a_driver_and_a_node_die(nodes: Any, tmp_path: Path) -> None:
    """One picture is cut off, one kills whoever reads it; a worker is killed, the driver is, a node vanishes."""
    paths = write_pictures(tmp_path / "pictures", PICTURES)
    broken, deadly = Path(paths[1234]), Path(paths[7777])
    broken.write_bytes(broken.read_bytes()[:60])
    deadly = deadly.rename(deadly.with_stem(f"07777{CRASH}"))
    paths[7777] = str(deadly)
    here = tr.map(paths, brightness, model=None, out=tmp_path / "here", batch=500)
    assert list(here.failures) == [str(broken)]
    out = tmp_path / "there"

    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "pictures"), str(out), nodes.address, str(BATCH)]
    )
    try:
        wait_for(lambda: parts(out) >= 10 or driver.poll() is not None)
        workers()[0].send_signal(signal.SIGKILL)
        wait_for(lambda: parts(out) >= 40 or driver.poll() is not None)
    finally:
        driver.kill()
    assert driver.wait() == -signal.SIGKILL, "it was done before it could be killed"
    kept = parts(out)
    assert 40 <= kept < PICTURES // BATCH

    gone: list[int] = []

    def vanish() -> None:
        wait_for(lambda: parts(out) >= kept + 20)
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        gone.append(parts(out))

    thread = threading.Thread(target=vanish)
    thread.start()
    with pytest.warns(TokenRankWarning, match="times a worker or its node died; what it was at was done anew"):
        there = tr.map(
            paths, slow_brightness, model=None, engine="ray", address=nodes.address, out=out, batch=BATCH,
            workers=2,
        )  # fmt: skip
    thread.join()
    assert gone
    assert gone[0] < parts(out), "it was done before the node could vanish"

    assert list(there.failures) == [str(broken), str(deadly)]
    assert there.failures[str(broken)] == here.failures[str(broken)]
    assert there.failures[str(deadly)].startswith("ClusterError: 3 workers died at it alone")
    expected = here.frame()
    expected = expected[expected["key"] != str(deadly)].reset_index(drop=True)
    pandas.testing.assert_frame_equal(there.frame(), expected, check_exact=True)
    assert len(expected) == PICTURES - 2  # and no key twice, which reading the parts refuses


def parts(folder: Path) -> int:
    return len(list((folder / "parts").glob("part-*.parquet"))) if (folder / "parts").is_dir() else 0


def workers() -> list[Any]:
    """Processes at work below this one."""
    psutil = pytest.importorskip("psutil")
    found = [p for p in psutil.Process().children(recursive=True) if "MapWorker" in "".join(p.cmdline())]
    assert found
    return found


def wait_for(reached: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_memory_that_runs_out_in_a_worker() -> None:
    """Real allocations of a petabyte: a batch of several, and an item that is too large alone."""
    with ray_alone():
        results = list(RayEngine(workers=1).results(Hungry(whales=["c"]), [["a", "b", "c"], ["d"]]))
    rows = [row for done in results for row in done.rows]
    assert sorted(row["key"] for row in rows) == ["a", "b", "d"]
    assert os.getpid() not in {row["process"] for row in rows}
    (failures,) = (done.failures for done in results if done.failures)
    assert list(failures) == ["c"]
    assert "it was alone: take smaller inputs" in failures["c"]


def lacking(work: Path, name: str) -> dict[str, Any]:
    """A worker's surroundings in which a package is not to be found."""
    work.mkdir()
    (work / f"{name}.py").write_text(f"raise ModuleNotFoundError({f'No module named {name!r}'!r}, name={name!r})")
    return {"env_vars": {"PYTHONPATH": f"{work}{os.pathsep}{os.environ['PYTHONPATH']}"}}


def test_a_cluster_that_lacks_the_package(tmp_path: Path) -> None:
    with (
        ray_alone(),
        pytest.raises(ClusterError, match=r"No module named 'tokenrank'\); install .*every node.*--runtime"),
    ):
        tr.map(["a"], brightness, model=None, engine="ray", runtime_env=lacking(tmp_path / "lacking", "tokenrank"))
