"""Files that are there as a whole or not at all, whenever the process ends."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from ...errors import InputError, printable

UNFINISHED = ".unfinished"
"""How the names of files end that are being written."""

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step; a file that is there is replaced.

    The content is on the disk before it gets its name, and the name before this returns, so that neither a killed
    process nor a power failure leaves half a file under it.

    Raises:
        OSError: the system refuses; what was at ``path`` is still there, and nothing else is left.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with open(unfinished, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left half written; only where no other process writes."""
    for path in folder.glob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def refusal(path: Path, error: OSError, kept: str) -> InputError:
    """The error to raise where writing ``path`` failed; ``kept`` says what is safe."""
    cure = "free some space" if error.errno in _FULL else "see that the folder can be written"
    return InputError(
        f"cannot write {printable(path)}: {error.strerror or error}; {kept}; {cure}, then start the same run again: "
        "it goes on from there"
    )


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders, and orders renames by itself
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)
