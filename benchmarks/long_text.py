"""Seconds that the figure of a long text takes: pages laid out, and written as png, pdf and svg.

python benchmarks/long_text.py --tokens 5000

The text is the documentation, word by word; the maps are random and smoothed: drawing does not know what they are of.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import matplotlib
import torch

import tokenrank as tr
from tokenrank.view import render_pages, text_pages


def long_analysis(count: int) -> tr.Analysis:
    """Six maps of ``count`` words, from token 7."""
    pages = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
    words = [word for page in pages for word in page.read_text("utf-8").split()]
    words = (words * (count // len(words) + 1))[:count]
    layout = tr.TokenLayout.text(words)
    generator = torch.Generator().manual_seed(0)

    def smoothed(width: int) -> tr.TokenMap:
        values = torch.rand(count, generator=generator) ** 4
        values = torch.nn.functional.avg_pool1d(values[None, None], 2 * width + 1, 1, width)[0, 0]
        return tr.TokenMap(values / values.sum(), layout)

    short = tr.analyze("A short text.", start=0)
    begin = torch.zeros(count, dtype=torch.float64)
    begin[7] = 1
    bounces = {n: smoothed(place) for place, n in enumerate((1, 2, 4, 8))}
    chain = tr.AttentionChain(torch.eye(count), layout)
    return dataclasses.replace(
        short, chain=chain, bounces=bounces, forward=smoothed(2), backward=smoothed(1), start_values=begin
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=5000)
    options = parser.parse_args()
    analysis = long_analysis(options.tokens)
    begin, spent = time.perf_counter(), time.process_time()
    pages = text_pages(analysis)
    print(f"matplotlib {matplotlib.__version__}, {options.tokens:,} tokens, six maps: {len(pages)} pages")
    print(f"laid out  {time.perf_counter() - begin:5.1f} s, of one core {time.process_time() - spent:5.1f} s")
    for form in ("png", "pdf", "svg"):
        begin, spent = time.perf_counter(), time.process_time()
        contents = render_pages(pages, form)
        took, used = time.perf_counter() - begin, time.process_time() - spent
        print(f"{form}       {took:5.1f} s, of one core {used:5.1f} s, {sum(map(len, contents)) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
