"""``Explorer``: an index and its bytes, shown as a page, a widget of a notebook, or files for a site."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, printable
from ..html import escape
from ..writing import save_whole
from . import file
from .blob import as_trx
from .module import joined

if TYPE_CHECKING:
    from .widget import ExplorerWidget

HEIGHT = 860
"""Of the page in a notebook without anywidget, in pixels."""

_CURE = "pip install 'tokenrank[notebook]'"


class Explorer:
    """Pictures or texts, and the attention of a model on them, to be clicked through; made by ``tr.explore``.

    In a notebook it shows itself: as a widget where anywidget is installed, otherwise as a page in a frame.

    Args:
        index: the JSON in front of the blob, as ``page/types.js`` has it.
        parts: the blob, part by part.
    """

    def __init__(self, index: Mapping[str, Any], parts: Sequence[bytes]) -> None:
        self.index, self.parts = dict(index), tuple(parts)

    @property
    def size(self) -> int:
        """Bytes of the page."""
        return len(self.html().encode("utf-8"))

    def html(self) -> str:
        """The whole explorer as one page of HTML: no file beside it, no network, no server."""
        return self._html

    @cached_property
    def _html(self) -> str:
        return file.html(self.index, self.parts)

    def trx(self) -> bytes:
        """The data alone, index and blob in one file, of which a page on a server fetches what is looked at."""
        return as_trx(self.index, self.parts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the explorer, whole or not at all.

        Args:
            path: ends in ``.html`` for one page that opens from the disk, in ``.trx`` for the data alone: a site of
                your own shows it with the file that ``Explorer.module()`` is, and fetches of it what is looked at.

        Raises:
            InputError: another ending, or a path that cannot be written.
        """
        ending = Path(path).suffix.lower()
        if ending not in (".html", ".htm", ".trx"):
            raise InputError(
                f"{printable(path)} ends in {ending or 'nothing'!r}, expected .html for a page, or .trx for the data "
                "of a site of your own"
            )
        content = self.trx() if ending == ".trx" else self.html().encode("utf-8")
        save_whole(path, content)

    @staticmethod
    def module() -> str:
        """The ES module that draws explorers, for a site of your own; the same one in every page and widget.

        It exports ``mount(element, source)``; ``source`` of a file made by ``save("page.trx")`` is
        ``fromAddress("page.trx")``.
        """
        return joined()

    def widget(self) -> ExplorerWidget:
        """The explorer as a widget of a notebook; the same one whenever it is asked, so that all views agree.

        What a reader chose is in its traits (``layer``, ``head``, ``starts``, ``bounces``, ``direction``, …): reading
        tells it, setting moves the page.

        Raises:
            MissingExtraError: anywidget is not installed.
        """
        return self._widget

    @cached_property
    def _widget(self) -> ExplorerWidget:
        from .widget import ExplorerWidget

        return ExplorerWidget(self.index, self.parts)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        if _has_anywidget():
            return self.widget()._repr_mimebundle_()
        return {"text/html": self._frame(), "text/plain": repr(self)}

    def _repr_html_(self) -> str | None:
        # hosts that know no bundles; those that do would keep both
        return None if _has_anywidget() else self._frame()

    def _frame(self) -> str:
        document = self.html().replace("&", "&amp;").replace("'", "&#39;")
        return (
            f"<iframe title='{escape(self.index['title'])}' sandbox='allow-scripts allow-downloads' "
            f"allow='fullscreen; clipboard-write' style='width:100%;height:{HEIGHT}px;border:0' srcdoc='{document}'>"
            f"</iframe><div style='font-size:85%;opacity:.75'>A page in a frame, since anywidget is not installed; "
            f"with it ({_CURE}) Python reads and sets what is chosen here.</div>"
        )

    def __repr__(self) -> str:
        sheets = self.index["sheets"]
        names = ", ".join(printable(sheet["name"]) for sheet in sheets[:3]) + (", …" if len(sheets) > 3 else "")
        stored = sorted({layer["number"] for sheet in sheets for layer in sheet["layers"] if layer["stored"]})
        mb = sum(map(len, self.parts)) / 1e6
        return f"Explorer({names}; layers {', '.join(map(str, stored))}, {mb:.1f} MB)"


def _has_anywidget() -> bool:
    return find_spec("anywidget") is not None
