"""The short form of benchmarks/robustness/readers.py: damaged files of every kind, in a forked process under limits."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "robustness"
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux"),
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the source archive holds no benchmarks"),
]
EACH = 4


@pytest.fixture
def robustness(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of the campaign, by name; gone afterwards."""
    for module in ("h5py", "pyarrow", "scipy.io", "soundfile"):
        pytest.importorskip(module)
    names = ("apart", "mutations", "reading", "seeds", "readers")
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.syspath_prepend(FOLDER.parent)
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield {name: import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


def test_no_damaged_file_crashes_hangs_swells_or_is_misread(robustness, tmp_path):
    campaign, seeds, mutations = robustness["readers"], robustness["seeds"], robustness["mutations"]
    from tokenrank import reading_budget

    made: list[tuple[Any, int, bytes, str]] = []
    for place, kind in enumerate(seeds.KINDS):
        folder = tmp_path / str(place)
        folder.mkdir()
        data = kind.make(folder)
        (folder / kind.file).write_bytes(data)
        good = campaign.digest(campaign.READERS[kind.reader](folder / kind.file))
        made += [(kind, 7 * number + number % 2, data, good) for number in range(EACH)]

    def path_of(case: int) -> Path:
        kind = made[case][0]
        return tmp_path / str(seeds.KINDS.index(kind)) / kind.file

    def call(case: int) -> str:
        kind, number, data, _ = made[case]
        path_of(case).write_bytes(mutations.mutated(kind.name, data, number)[1])
        with reading_budget(campaign.BUDGET):
            return campaign.digest(campaign.READERS[kind.reader](path_of(case)))

    verdicts: list[str] = []
    for case, told in robustness["apart"].run(call, range(len(made)), campaign.MEMORY):
        kind, number, data, good = made[case]
        found = campaign._verdicts(kind, number, told, good, path_of(case), data)
        assert set(found) <= {"refused", "same", "read"}, (kind.name, number, told)
        verdicts += found
    assert len(verdicts) == EACH * len(seeds.KINDS) > 100
    assert {"refused", "same", "read"} <= set(verdicts)


def test_the_campaign_sees_a_crash_a_hang_and_a_swelling(robustness, monkeypatch):
    import ctypes
    import time

    apart = robustness["apart"]
    monkeypatch.setattr(apart, "SECONDS", 2.0)

    def call(number: int) -> int:
        if number == 1:
            ctypes.string_at(0)
        if number == 2:
            time.sleep(9)
        return len(bytearray(b"x" * 100_000_000 if number == 3 else b""))

    told = dict(apart.run(call, range(5), 2**30))
    assert (told[1]["end"], told[2]["end"]) == (11, 14)
    assert told[3]["bytes"] > 90_000_000, told
    assert told[0]["value"] == told[4]["value"] == 0
    assert told[4]["bytes"] < 50_000_000


@pytest.mark.parametrize(("number", "is_read"), [(3, False), (83, True)])
def test_files_that_end_the_process_with_scipy(number, is_read, robustness, tmp_path):
    """SciPy 1.17 ends with SIGSEGV and SIGBUS on these, whose checksums fit; one is damaged beside the labels."""
    from tokenrank.errors import InputError

    kind = next(kind for kind in robustness["seeds"].KINDS if kind.name == "MATLAB 5, compressed")
    change, data = robustness["mutations"].mutated(kind.name, kind.make(tmp_path), number)
    assert change == "checksum repaired"
    (tmp_path / "a.mat").write_bytes(data)
    read = robustness["reading"].READERS["regions"]
    if is_read:
        assert len(read(tmp_path / "a.mat")) == 3
        return
    with pytest.raises(InputError):
        read(tmp_path / "a.mat")
