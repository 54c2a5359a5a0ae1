"""Pictures of the explorer for README and documentation: every view in both themes, and the bounce as a short film.

python -m benchmarks.explorer_pictures --out docs/figures

Needs Chromium and playwright (``pip install "tokenrank[browser]"``). The pages are those of ``tokenrank explore``: the
photographs that come along, by the bundled network, and a text. The film is made frame by frame: the page's clock
stands still and is moved on by hand, so that it is the same on every machine.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

import tokenrank as tr

TEXT = (
    "The old bridge was closed because the engineers found deep cracks in it. They had warned the city for years, but "
    "the council wanted to keep the road open until the new one was finished."
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
READY = """() => /\\d from TokenRank/.test(document.querySelector('main')?.shadowRoot
  ?.querySelector('input[aria-label="Number of bounces"]')?.getAttribute('aria-valuetext') ?? '')"""
DESK, PHONE = (1200, 800), (360, 760)
VIEWS = {
    "walk": ("picture", "layer=9&starts=331&bounces=2", DESK),
    "heads": ("picture", "tab=heads&layer=11&starts=137", DESK),
    "chain": ("picture", "tab=chain&layer=11&starts=137&bounces=4", DESK),
    "groups": ("picture", "tab=groups&layer=11&starts=137", DESK),
    "text": ("text", "layer=2&bounces=2", DESK),
    "phone": ("picture", "layer=9&starts=331&bounces=2", PHONE),
}
WIDTH, FPS, QUALITY = 900, 15, 60
ARROW = [(0, 0), (0, 17), (4, 13.5), (6.5, 19.5), (9.3, 18.3), (6.8, 12.4), (12, 12)]


def pages(folder: Path) -> dict[str, Path]:
    """The two pages that are looked at."""
    found = {"picture": folder / "astronaut.html", "text": folder / "text.html"}
    tr.explore(str(tr.samples.path("astronaut"))).save(found["picture"])
    tr.explore(TEXT, title="The old bridge").save(found["text"])
    return found


def stills(browser: Any, found: dict[str, Path], out: Path) -> None:
    """``explorer-VIEW-THEME.png`` of every view."""
    for name, (page, link, (width, height)) in VIEWS.items():
        for scheme in ("dark", "light"):
            window = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=1.5
            )
            shown = window.new_page()
            shown.goto(f"{found[page].as_uri()}#{link}")
            shown.wait_for_function(READY)
            shown.wait_for_timeout(400)
            image = Image.open(io.BytesIO(shown.screenshot()))
            path = out / f"explorer-{name}-{scheme}.png"
            image.convert("RGB").quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
            window.close()


class Film:
    """Frames of a page whose clock is moved by hand, with the pointer drawn in."""

    def __init__(self, page: Any, scale: float) -> None:
        self.page, self.scale = page, scale
        self.frames: list[Image.Image] = []
        self.pointer = (980.0, 700.0)

    def shoot(self, seconds: float) -> None:
        """So many seconds pass."""
        for _ in range(max(1, round(seconds * FPS))):
            self.page.clock.run_for(1000 // FPS)
            self.page.wait_for_timeout(30)  # of the worker, whose time is real
            image = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
            image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
            x, y = (v * self.scale for v in self.pointer)
            draw = ImageDraw.Draw(image)
            draw.polygon([(x + 1.2 * a, y + 1.2 * b) for a, b in ARROW], fill="white", outline="black", width=1)
            self.frames.append(image)

    def move(self, x: float, y: float, seconds: float) -> None:
        """The pointer goes there, slowly at both ends."""
        (x0, y0), steps = self.pointer, max(1, round(seconds * FPS))
        for step in range(1, steps + 1):
            t = step / steps
            t = t * t * (3 - 2 * t)
            self.pointer = x0 + t * (x - x0), y0 + t * (y - y0)
            self.page.mouse.move(*self.pointer)
            self.shoot(1 / FPS)

    def press(self) -> None:
        """The button goes down where the pointer is."""
        self.page.mouse.down()
        self.shoot(0.15)

    def release(self) -> None:
        """And up again."""
        self.page.mouse.up()
        self.shoot(0.15)


def film(browser: Any, found: dict[str, Path], path: Path) -> None:
    """Click on the suit, play until the face holds what is left, then drag two bounces across the picture."""
    width, height = DESK
    window = browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark")
    page = window.new_page()
    page.clock.install(time=0)
    page.goto(f"{found['picture'].as_uri()}#layer=9&starts=180&bounces=1")
    page.wait_for_function(READY)
    page.clock.pause_at(3_600_000)  # from here on, time passes when `shoot` says so
    shot = Film(page, WIDTH / width)
    box = page.locator(".picture canvas").bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def middle(what: str) -> tuple[float, float]:
        place = page.locator(what).first.bounding_box()
        return place["x"] + place["width"] / 2, place["y"] + place["height"] / 2

    for step in storyboard(at, middle):
        getattr(shot, step[0])(*step[1:])
    # what stays the same for several frames is one frame that is shown longer
    kept: list[Image.Image] = []
    durations: list[int] = []
    for frame in shot.frames:
        if kept and frame.tobytes() == kept[-1].tobytes():
            durations[-1] += 1000 // FPS
        else:
            kept.append(frame)
            durations.append(1000 // FPS)
    durations[-1] += 900
    kept[0].save(path, save_all=True, append_images=kept[1:], duration=durations, loop=0, quality=QUALITY, method=6)
    print(f"{path.name}: {len(kept)} frames, {sum(durations) / 1000:.1f} s, {path.stat().st_size / 1e6:.2f} MB")
    window.close()


def storyboard(at: Any, middle: Any) -> Iterator[tuple[Any, ...]]:
    """What the film shows: calls of ``Film``."""
    click = [("press",), ("release",)]
    yield "move", *at(0.60, 0.565), 0.9
    yield from click
    yield "shoot", 0.7
    yield "move", *middle(".play"), 0.7
    yield from click
    yield "shoot", 6.2
    yield "move", *middle(".strip button:nth-child(3)"), 0.7
    yield from click
    yield "move", *at(0.22, 0.75), 0.6
    yield ("press",)
    yield from (
        ("move", *at(x, y), 0.5) for x, y in ((0.34, 0.66), (0.62, 0.52), (0.75, 0.72), (0.86, 0.4), (0.44, 0.24))
    )
    yield ("release",)
    yield "shoot", 0.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--only", choices=("stills", "film"))
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        found = pages(Path(folder))
        browser = driver.chromium.launch(executable_path=options.chromium, args=ARGUMENTS)
        if options.only != "film":
            stills(browser, found, options.out)
        if options.only != "stills":
            film(browser, found, options.out / "explorer.webp")
        browser.close()


if __name__ == "__main__":
    main()
