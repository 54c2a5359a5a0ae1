"""The explorer's page: bytes, seconds until it is there, a click, another head; BertViz beside it on one text.

python -m benchmarks.explorer --out benchmarks/results/explorer.json
python -m benchmarks.explorer --text NETWORK --peer SCRIPTS --out benchmarks/results/explorer.json

Needs Chromium and playwright (``pip install "tokenrank[browser]"``). Queries and keys are random, of 12 heads with 64
dimensions; the text is the documentation, read by the text network in the folder NETWORK (MiniLM from
``benchmarks.networks``). ``--peer`` writes and opens BertViz's pages too (``pip install bertviz``; SCRIPTS:
``explorer_peer.py``). Times are medians of ``--repeat`` in one browser on the machine that the result names.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import torch

import tokenrank as tr

from .explorer_peer import drawn, scripts_in, written
from .facts import facts, parser, save

GRIDS = {256: (15, 17), 1024: (31, 33), 2048: (23, 89), 4096: (63, 65)}  # and CLS
HEADS, SIZE = 12, 64
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

READY = """() => {
  const root = document.querySelector('main')?.shadowRoot
  const said = root?.querySelector('input[aria-label="Number of bounces"]')?.getAttribute('aria-valuetext') ?? ''
  return /\\d from TokenRank/.test(said) && performance.now()
}"""
FIRST = (
    """() => document.querySelector('main')?.shadowRoot?.querySelector('.sentence')?.textContent && performance.now()"""
)
NODES = """() => [document, document.querySelector('main').shadowRoot].map(root => root.querySelectorAll('*').length)
  .reduce((sum, count) => sum + count)"""
SITE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><main></main><script type="module">
import {mount} from './explorer.js'
window.view = (await mount(document.querySelector('main'), 'page.trx')).view
</script>"""
# from an event to the picture that shows the first map of its answer, and to all bounces and the limit
WATCH = """() => {
  window.took = name => new Promise(done => {
    document.querySelector('main').addEventListener(name, ({timeStamp}) => {
      const before = view.walk, times = []
      const look = () => {
        const {walk} = view, whole = walk !== before && walk.limit !== null && walk.ready > view.index.bounces
        if (walk !== before && (whole || !times.length)) {
          const place = whole ? 1 : 0
          requestAnimationFrame(() => setTimeout(() => {
            times[place] = performance.now() - timeStamp
            if (whole) done([times[0] ?? times[1], times[1]])
          }))
        }
        if (!whole) setTimeout(look)
      }
      look()
    }, {once: true, capture: true})
  })
}"""


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not write down who asked."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def random_trace(count: int, seed: int = 0) -> tr.Trace:
    """One layer of 12 heads: smooth queries and keys, so that rows are neither even nor one token."""
    rows, columns = GRIDS[count]
    generator = torch.Generator().manual_seed(seed)
    q, k = 1.5 * torch.randn(2, 1, HEADS, count, SIZE, generator=generator)
    return tr.from_query_key({"layer": (q, k)}, layout=tr.TokenLayout.image(rows, columns))


def medians(run: Callable[[int], list[float]], repeat: int) -> dict[str, float]:
    """Of the first map of an answer, and of the whole answer, in milliseconds."""
    first, whole = zip(*(run(i) for i in range(repeat)), strict=True)
    return {
        f"{name}_{kind}": value
        for name, found in (("first", sorted(first)), ("whole", sorted(whole)))
        for kind, value in (("median", statistics.median(found)), ("p95", found[min(repeat - 1, int(0.95 * repeat))]))
    }


def measured(browser: Any, folder: Path, made: tr.Explorer, repeat: int) -> dict[str, Any]:
    """Seconds of a page in a fresh window, and milliseconds of clicks and heads in it."""
    path = folder / "page.html"
    made.save(path)
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(path.as_uri())
    first = page.wait_for_function(FIRST).json_value() / 1e3
    whole = page.wait_for_function(READY, timeout=120_000).json_value() / 1e3
    row: dict[str, Any] = {"html_mb": path.stat().st_size / 1e6, "first_s": first, "whole_s": whole}
    row["nodes"] = page.evaluate(NODES)
    page.context.close()
    path.unlink()
    # the same page on a server of this machine, where its view can be asked
    (folder / "explorer.js").write_text(made.module(), encoding="utf-8")
    (folder / "index.html").write_text(SITE, encoding="utf-8")
    made.save(folder / "page.trx")
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        page.wait_for_function("() => window.view?.walk?.limit", timeout=120_000)
        row |= acted(page, repeat)
        page.context.close()
        server.shutdown()
    return row


def acted(page: Any, repeat: int) -> dict[str, Any]:
    """Clicks and heads."""
    page.evaluate(f"({WATCH})()")
    canvas, words = page.locator(".picture canvas"), page.locator(".flow span")
    drawn_words = 0 if canvas.is_visible() else words.count()

    def place(i: int) -> tuple[float, float]:
        if drawn_words:
            words.nth(1 + 7 * i % (min(drawn_words, 120) - 1)).scroll_into_view_if_needed()
            box = words.nth(1 + 7 * i % (min(drawn_words, 120) - 1)).bounding_box()
            return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        box = canvas.bounding_box()
        x, y = (0.1 + 0.8 * (i * step % 1) for step in (0.381, 0.617))
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def click(i: int) -> list[float]:
        where = place(i)
        took = page.evaluate_handle("() => ({took: window.took('pointerdown')})")
        page.mouse.click(*where)
        return list(took.evaluate("given => given.took"))

    def head(i: int) -> list[float]:
        took = page.evaluate_handle("() => ({took: window.took('keydown')})")
        page.keyboard.press(str(i % 6))
        return list(took.evaluate("given => given.took"))

    def heads(i: int) -> list[float]:
        page.keyboard.press("0")
        page.wait_for_function("() => view.work.building === 1")
        page.wait_for_timeout(100)
        took = page.evaluate_handle("() => ({took: window.took('keydown')})")
        page.keyboard.press("m")
        return list(took.evaluate("given => given.took"))

    page.mouse.click(*place(repeat))  # the keyboard is there from now on
    page.wait_for_timeout(300)
    few = max(3, repeat // 3)
    return {"click_ms": medians(click, repeat), "head_ms": medians(head, few), "all_heads_ms": medians(heads, few)}


def sizes(browser: Any, folder: Path, counts: list[int], repeat: int) -> list[dict[str, Any]]:
    rows = []
    for count in counts:
        trace = random_trace(count)
        begin = time.perf_counter()
        made = tr.explore(trace, limit=80_000_000)
        row: dict[str, Any] = {"tokens": count, "page": "random", "python_s": time.perf_counter() - begin}
        row |= measured(browser, folder, made, repeat)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def texts(
    browser: Any, folder: Path, network: Path, peer: Path | None, limit_s: float, repeat: int
) -> list[dict[str, Any]]:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(network)
    model = AutoModel.from_pretrained(network, attn_implementation="eager").eval()
    docs = Path(__file__).parent.parent / "docs"
    words = " ".join((docs / "design.md").read_text("utf-8").split())
    rows = []
    for count in (40, 512):
        inputs = tokenizer(words, truncation=True, max_length=count, return_tensors="pt")
        text = tokenizer.decode(inputs.input_ids[0], skip_special_tokens=True)
        begin = time.perf_counter()
        made = tr.explore(text, model=str(network), layers="all", limit=13_000_000)
        row: dict[str, Any] = {"tokens": count, "page": "tokenrank", "python_s": time.perf_counter() - begin}
        row |= measured(browser, folder, made, repeat)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if peer is None:
            continue
        with torch.no_grad():
            attentions = model(**inputs, output_attentions=True).attentions
        tokens = tokenizer.convert_ids_to_tokens(inputs.input_ids[0])
        for view in ("head", "model"):
            path = folder / f"{view}.html"
            row = {"tokens": count, "page": f"BertViz, {view} view", **written(attentions, tokens, view, path)}
            row |= drawn(browser, path, scripts_in(peer), limit_s)
            row["drawn_without_network"] = drawn(browser, path, None, 10.0)["drawn_s"] is not None
            rows.append(row)
            print(json.dumps(row), flush=True)
            path.unlink()
    return rows


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--tokens", type=int, nargs="*", default=list(GRIDS))
    made.add_argument("--text", type=Path, help="folder of a text network; no texts without")
    made.add_argument("--peer", type=Path, help="folder with the scripts that BertViz loads")
    made.add_argument("--limit-s", type=float, default=60.0, help="seconds after which a page is given up")
    made.add_argument("--repeat", type=int, default=15)
    made.add_argument("--chromium", default="/usr/bin/chromium")
    options = made.parse_args()
    from playwright.sync_api import sync_playwright

    hidden = {path: word for path, word in ((options.text, "NETWORK"), (options.peer, "SCRIPTS")) if path is not None}
    about = facts("playwright", "bertviz", hidden=hidden)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=options.chromium, args=ARGUMENTS)
        about["versions"]["chromium"] = browser.version
        rows = sizes(browser, Path(name), options.tokens, options.repeat)
        if options.text:
            rows += texts(browser, Path(name), options.text, options.peer, options.limit_s, options.repeat)
        browser.close()
    save(options.out, about, rows)


if __name__ == "__main__":
    main()
