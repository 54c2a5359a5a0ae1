"""Workers of a small cluster on this machine; what dies in the middle of 10,000 pictures is in test_cluster.py."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import PIL.Image
import pytest

import tokenrank as tr
from tests.cli.conftest import Ran
from tests.evaluate.runs import same
from tests.workers.cases import Hungry, brightness, ray_alone, write_pictures
from tokenrank.errors import ClusterError, InputError
from tokenrank.evaluate.runner import Run
from tokenrank.progress import listening
from tokenrank.workers import engine_of
from tokenrank.workers.cluster import connected

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason='no Ray: pip install "tokenrank[distributed]"'),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One node, connected to."""
    with ray_alone(), connected(None, 0, {}) as ray:
        yield ray


def pictures_with_masks(folder: Path, count: int) -> Path:
    """Pictures with a bright square, in ECSSD's folders; the last one is cut off."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    noise = np.random.default_rng(0)
    for i in range(count):
        picture = noise.integers(0, 90, (48, 64, 3), dtype=np.uint8)
        mask = np.zeros((48, 64), dtype=np.uint8)
        picture[8:32, 6 * i : 6 * i + 24] += 160
        mask[8:32, 6 * i : 6 * i + 24] = 255
        PIL.Image.fromarray(picture).save(folder / "images" / f"{i}.jpg")
        PIL.Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    last = folder / "images" / f"{count - 1}.jpg"
    last.write_bytes(last.read_bytes()[:400])
    return folder


def reported(folder: Path) -> dict[str, Any]:
    """What a report says, without what it took and where it was."""
    stored: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return {name: value for name, value in stored.items() if name not in ("times", "starts")}


def test_a_command_with_a_cluster_of_its_own_gives_the_same_report_to_the_last_digit(tmp_path: Path) -> None:
    """The bundled network on pictures, one of them broken; half of the run here, the rest by a worker."""
    data = pictures_with_masks(tmp_path / "data", 6)
    command = [
        "evaluate", "saliency", "--data", data, "--methods", "tokenrank:heads=uniform,rollout", "--size", 64,
        "--batch", 2, "--resamples", 50, "--seed", 3,
    ]  # fmt: skip
    here = Ran(*command, "--out", tmp_path / "here")
    assert here.code == 3, here.stderr
    with ray_alone() as ray:
        there = Ran(*command, "--out", tmp_path / "there", "--engine", "ray", "--workers", 1)
        assert there.code == 3, there.stderr
        assert not ray.is_initialized()
    assert [path.name for path in there.paths] == [path.name for path in here.paths]
    assert there.stderr.replace("there", "here") == here.stderr
    assert reported(tmp_path / "there") == reported(tmp_path / "here")
    assert same(Run(tmp_path / "there"), Run(tmp_path / "here"))
    (start,) = Run(tmp_path / "there").starts
    assert start["engine"] == {"name": "ray", "workers": 1, "cpus": 1.0, "gpus": 0.0}


def test_a_run_goes_on_with_the_other_engine_and_listens_to_this_machine_alone(cluster: Any, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 60)
    Path(paths[7]).write_bytes(Path(paths[7]).read_bytes()[:60])
    whole = tr.map(paths, brightness, model=None, out=tmp_path / "whole", batch=7)
    assert list(whole.failures) == [paths[7]]

    def stop(words: str, done: int, total: int | None) -> None:
        if words.startswith("sources") and done >= 20:
            raise KeyboardInterrupt

    with listening(stop), pytest.raises(KeyboardInterrupt):
        tr.map(paths, brightness, model=None, out=tmp_path / "pieces", batch=7)
    by_workers = {"engine": "ray", "workers": 2, "batch": 5}
    done = tr.map(paths, brightness, model=None, out=tmp_path / "pieces", **by_workers)
    pandas.testing.assert_frame_equal(done.frame(), whole.frame(), check_exact=True)
    assert done.failures == whole.failures
    assert cluster.is_initialized()  # whose connection it was, his it stays
    assert addresses() == {"127.0.0.1"}
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_what_the_cluster_cannot_do_is_said_at_once(cluster: Any) -> None:
    words = r"no node has room for a worker of 1 CPU and 1 GPU; the cluster has 1 nodes: \d+ CPU and 0 GPU"
    with pytest.raises(ClusterError, match=words):
        next(engine_of("ray", gpus=1).results(Hungry(), [["a"]]))
    with pytest.raises(InputError, match=r"beside a connection that exists; give it to ray\.init"):
        next(engine_of("ray", runtime_env={"pip": ["x"]}).results(Hungry(), [["a"]]))


@pytest.mark.parametrize(
    ("address", "words", "kind"),
    [
        ("ray://127.0.0.1:9", r"expected 'auto' or HOST:PORT. Ray's client cannot run this", InputError),
        ("auto", r"no Ray cluster at 'auto': .*ray start --head", ClusterError),
    ],
)
def test_an_address_where_no_cluster_is(address: str, words: str, kind: type[Exception]) -> None:
    with ray_alone(), pytest.raises(kind, match=words):
        next(engine_of("ray", address=address).results(Hungry(), [["a"]]))


def addresses() -> set[str]:
    """Where this process and its children listen."""
    psutil = pytest.importorskip("psutil")
    sockets = []
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile
            sockets += process.net_connections(kind="inet")
    assert sockets
    return {socket.laddr.ip.removeprefix("::ffff:") for socket in sockets if socket.status == "LISTEN"}
