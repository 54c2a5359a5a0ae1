"""BertViz on the text and the network of the explorer's benchmark: size of its page, seconds, elements.

Run by ``benchmarks/explorer.py``. BertViz loads three scripts from a content network; they are answered from a folder
(``npm install d3@5.7.0 jquery@2.2.0 requirejs@2.3.6`` there), so that its pages are drawn at all without a network.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import torch

SCRIPTS = {
    "require": "node_modules/requirejs/require.js",
    "jquery": "node_modules/jquery/dist/jquery.min.js",
    "d3": "node_modules/d3/dist/d3.min.js",
}


def scripts_in(folder: Path) -> dict[str, Path]:
    """The three scripts by the word that their address holds."""
    found = {word: folder / path for word, path in SCRIPTS.items()}
    missing = [str(path) for path in found.values() if not path.is_file()]
    if missing:
        raise SystemExit(f"{missing} are not there; in {folder}: npm install d3@5.7.0 jquery@2.2.0 requirejs@2.3.6")
    return found


def written(attentions: tuple[torch.Tensor, ...], tokens: list[str], view: str, path: Path) -> dict[str, float]:
    """Write the page of a view ("head" or "model"); its seconds and megabytes."""
    try:
        import bertviz
    except ImportError:
        raise SystemExit("BertViz is not installed: pip install bertviz, or leave out --peer") from None
    begin = time.perf_counter()
    show = bertviz.head_view if view == "head" else bertviz.model_view
    html = show(attentions, tokens, html_action="return").data
    path.write_text('<!doctype html><meta charset="utf-8">' + html, encoding="utf-8")
    return {"python_s": time.perf_counter() - begin, "html_mb": path.stat().st_size / 1e6}


def drawn(browser: Any, path: Path, scripts: dict[str, Path] | None, limit_s: float) -> dict[str, Any]:
    """Open the page and wait for its first lines; without scripts the network is away, as on a plane."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()

    def answer(route: Any) -> None:
        for word, file in (scripts or {}).items():
            if f"/{word}" in route.request.url:
                return route.fulfill(body=file.read_text("utf-8"), content_type="text/javascript")
        return route.abort()

    page.route(re.compile("^https?:"), answer)
    begin = time.perf_counter()
    try:
        page.goto(path.as_uri(), timeout=limit_s * 1e3)
        left = max(1.0, limit_s - (time.perf_counter() - begin))
        page.wait_for_function("() => document.querySelectorAll('svg line, svg path').length > 20", timeout=left * 1e3)
        seconds: float | None = time.perf_counter() - begin
        nodes: int | None = page.evaluate("() => document.querySelectorAll('*').length")
    except Exception as error:  # playwright's timeout, or a page that the browser gives up
        seconds, nodes = None, None
        return {"drawn_s": seconds, "nodes": nodes, "limit_s": limit_s, "why": str(error).splitlines()[0]}
    finally:
        context.close()
    return {"drawn_s": seconds, "nodes": nodes}
