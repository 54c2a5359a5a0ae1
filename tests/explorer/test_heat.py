"""Maps as colours: tables, scales, what is left out, and what is said of a map; the page's own files in a browser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.browser import Shown
from tokenrank.explorer import module

# a view of 4 × 6 patches behind CLS: three maps and a limit, n = 0 at patch 8
VIEW = """(() => {
  const sheet = {name: 's', count: 25, grid: {first: 1, rows: 4, columns: 6, order: null}, words: [], tokens: null,
    spans: [{name: 'CLS', first: 0, count: 1}, {name: 'image', first: 1, count: 24}]}
  const maps = new Float32Array(75), limit = new Float32Array(25).fill(0.04)
  maps[9] = 1
  for (let i = 0; i < 25; i++) { maps[25 + i] = i === 9 ? 0.52 : 0.02; maps[50 + i] = i === 20 ? 0.28 : 0.03 }
  maps[50] = 0.6
  const walk = {count: 25, ready: 3, maps, limit, distance: Float32Array.of(0.96, 0.5, 0.25)}
  const layer = {heads: []}
  const state = {head: 'lambda2', without: 'none', starts: [9], hide: false, scale: 'each', colours: 'magma',
    pieces: true}
  const at = n => n > 2 ? limit : n < walk.ready ? maps.subarray(25 * n, 25 * n + 25) : null
  return {sheet, layer, walk, state, at, frame: 1, index: {bounces: 2}}
})()"""


@pytest.fixture
def page(browser: Any) -> Any:
    """The page's files behind a server, with ``VIEW`` as ``view``."""
    shown: Shown = browser.open(f"{browser.serve(module.PAGE)}types.js")
    shown.page.evaluate(f"""async () => {{
      const names = ['heat', 'picture', 'slider', 'board', 'reading']
      for (const name of names) Object.assign(window, await import(`/${{name}}.js`))
      window.view = {VIEW}
    }}""")
    return shown.page


@pytest.mark.browser
@pytest.mark.parametrize("name", ["magma", "viridis"])
def test_tables_are_those_of_matplotlib(page: Any, name: str) -> None:
    import matplotlib

    table = np.array(page.evaluate("name => [...palette(name)]", name)).reshape(256, 3)
    wanted = np.asarray(matplotlib.colormaps[name](np.arange(256)))[:, :3] * 255
    assert np.abs(table - wanted).max() <= 3
    assert len(set(map(tuple, table))) > 200  # no flat stretch


@pytest.mark.browser
def test_greys_rise(page: Any) -> None:
    table = np.array(page.evaluate("[...palette('greys')]")).reshape(256, 3)
    assert (np.diff(table.sum(1)) >= 0).all()
    assert table[0].max() < 20
    assert table[-1].min() > 235


@pytest.mark.browser
def test_cells_in_another_order(page: Any) -> None:
    found = page.evaluate("[...drawnTokens({count: 5, grid: {first: 1, rows: 2, columns: 2, order: [4, 2, 3, 1]}})]")
    assert found == [4, 2, 3, 1]
    assert page.evaluate("[...drawnTokens({count: 3, grid: null})]") == [0, 1, 2]
    assert page.evaluate("[...drawnTokens({count: 9, grid: {first: 5, rows: 2, columns: 2, order: null}})]") == [
        5,
        6,
        7,
        8,
    ]


@pytest.mark.browser
def test_the_neighbourhood_stays_in_its_rows(page: Any) -> None:
    """Patch 6 begins a row: the end of the row above is no neighbour."""
    near = page.evaluate("[...neighbourhood(view.sheet, [7, 0])]")
    assert [k for k, on in enumerate(near) if on] == [0, 1, 6, 7, 12, 13]
    wide = page.evaluate("[...neighbourhood({count: 80, grid: {first: 0, rows: 4, columns: 20, order: null}}, [41])]")
    assert sum(wide) == 16  # rows 0 to 3 of columns 0 to 3
    text = page.evaluate("[...neighbourhood({count: 6, grid: null}, [0, 4])]")
    assert text == [1, 1, 0, 1, 1, 1]


@pytest.mark.browser
def test_own_and_shared_scale(page: Any) -> None:
    scale = "([scale, n]) => scaleOf({...view, state: {...view.state, scale}}, view.at(n), n)"
    assert page.evaluate(scale, ["each", 2])["top"] == pytest.approx(0.28)
    assert page.evaluate(scale, ["shared", 2])["top"] == pytest.approx(0.52)  # of n ≥ 1, without the start
    assert page.evaluate(scale, ["shared", 0])["top"] == 1
    assert page.evaluate(scale, ["each", 2])["largest"] == pytest.approx(0.28)  # CLS has 0.6, and is no patch


@pytest.mark.browser
def test_what_is_hidden_is_not_in_the_scale(page: Any) -> None:
    found = page.evaluate("scaleOf({...view, state: {...view.state, hide: true}}, view.at(1), 1)")
    assert found["largest"] == pytest.approx(0.02)
    assert found["weak"]


@pytest.mark.browser
def test_a_map_without_three_even_shares_is_weak(page: Any) -> None:
    weak = """share => { const map = new Float32Array(25); map[3] = share
      return scaleOf({...view, walk: null}, map, 1) }"""
    below, above = page.evaluate(weak, 0.119), page.evaluate(weak, 0.121)
    assert below["weak"]
    assert not above["weak"]
    assert below["top"] == above["top"] == pytest.approx(0.24)  # six even shares: noise does not fill the scale


@pytest.mark.browser
def test_smooth_keeps_centres_hidden_cells_and_the_table(page: Any) -> None:
    image = page.evaluate("""() => {
      const cells = Float32Array.of(0, 1, 0.5, 0.25, -1, 0.75), table = palette('magma')
      const {width, height, data} = cellImage(cells, 3, table, 1, true)
      return [width, height, [...data], [...table]]
    }""")
    width, height, data, table = image[0], image[1], np.array(image[2]), np.array(image[3]).reshape(256, 3)
    pixels = data.reshape(height, width, 4)
    assert (width, height) == (24, 16)
    known = set(map(tuple, table))
    assert all(tuple(p[:3]) in known for p in pixels.reshape(-1, 4) if p[3])
    assert not pixels[8:, 8:16, 3].any()
    assert pixels[:8, :, 3].all()
    assert pixels[8:, :8, 3].all()
    assert np.abs(pixels[3:5, 11:13, :3].astype(int) - table[255]).max() <= 6  # the cell of 1, at its centre


@pytest.mark.browser
def test_while_bounces_are_built_the_last_one_is_shown_and_said(page: Any) -> None:
    found = page.evaluate("""() => {
      const walk = {...view.walk, ready: 2, limit: null}
      const behind = {...view, frame: 2, walk, at: n => n < 2 ? view.at(n) : null}
      const of = shown(behind)
      return [of.frame, of.map[9], caution(behind, of, {weak: false}), shown({...behind, walk: null, at: () => null})]
    }""")
    assert found[0] == 1
    assert found[1] == pytest.approx(0.52)
    assert found[2] == "n = 1 for now: more bounces are being computed"
    assert found[3] is None


@pytest.mark.browser
def test_what_is_said_of_a_weak_map(page: Any) -> None:
    say = """([frame, largest]) => caution({...view, frame}, {map: view.at(1), frame},
      {largest, weak: largest < 0.12, kept: 25})"""
    assert page.evaluate(say, [1, 0.072]) == "nothing stands out here: the largest patch has 1.8 × the even share"
    assert page.evaluate(say, [1, 0.13]) == ""
    assert "the start is not a patch" in page.evaluate(say, [0, 0])


@pytest.mark.browser
def test_tokens_left_out_are_not_drawn_and_have_no_share(page: Any) -> None:
    found = page.evaluate("""() => { const left = {...view, sheet: {...view.sheet, special: [0, 20]},
      state: {...view.state, without: 'special'}}
      const {near, ...scale} = scaleOf(left, view.at(2), 2); return {...scale, near: [...near]} }""")
    assert found["kept"] == 23
    assert [k for k, gone in enumerate(found["near"]) if gone] == [19]  # token 20
    assert found["largest"] == pytest.approx(0.03)
    assert found["top"] == pytest.approx(6 / 23)


@pytest.mark.browser
def test_the_distance_is_interpolated_and_ends_at_zero(page: Any) -> None:
    at = "frame => distanceAt({...view, frame})"
    found = [page.evaluate(at, frame) for frame in (0, 0.5, 2, 2.5, 3)]
    assert found == pytest.approx([0.96, 0.73, 0.25, 0.125, 0])
    assert page.evaluate("distanceAt({...view, walk: {...view.walk, distance: null}})") is None


@pytest.mark.browser
def test_a_thumbnail_is_grey_only_where_that_is_certain(page: Any) -> None:
    grey = "([values, count]) => thumbnail(Uint8Array.from(values), count, values.length).weak"
    assert page.evaluate(grey, [[255] * 24, 25])  # even: 1/24 of all at most
    assert not page.evaluate(grey, [[255] + [20] * 23, 25])
    pooled = page.evaluate("[...thumbnail(Uint8Array.of(0, 255, 51, 102), 4, 2).shares]")
    assert pooled == pytest.approx([1, 0.4])


@pytest.mark.browser
def test_titles_say_what_is_certain(page: Any) -> None:
    title = "head => headTitle({number: 8, heads: [head]}, 0)"
    head = {"lambda2": 0.91321, "certificate": "proved", "bound": 2e-7, "entropy": 5.34}
    assert page.evaluate(title, head) == "layer 8, head 0: |λ2| 0.9132, proved to within 2e-7; entropy 5.3 bits"
    assert "to within 2e-7;" in page.evaluate(title, {**head, "bound": 1.1e-7}), "a bound is rounded up"
    assert "uncertain;" in page.evaluate(title, {**head, "certificate": "uncertain", "bound": None})


@pytest.mark.browser
def test_the_largest_tokens(page: Any) -> None:
    names = "view => largestOf(view, view.at(2)).map(({name, share, tokens}) => [name, share, tokens])"
    found = page.evaluate(f"({names})(view)")
    assert [row[0] for row in found[:2]] == ["CLS", "row 4, column 2"]
    hidden = page.evaluate(f"({names})({{...view, state: {{...view.state, hide: true, starts: [20]}}}})")
    assert "row 4, column 2" not in [row[0] for row in hidden]
    words = page.evaluate("""() => largestOf({state: {pieces: false}, sheet: {count: 4, grid: null, spans: [],
      tokens: [{name: '[CLS]'}, {name: 'br'}, {name: '##idge'}, {name: 'old'}],
      words: [{text: 'bridge', first: 1, count: 2}, {text: 'old', first: 3, count: 1}]}},
      Float32Array.of(0.1, 0.25, 0.35, 0.3)).map(({name, tokens}) => [name, tokens])""")
    assert words == [["bridge", [1, 2]], ["old", [3]], ["[CLS]", [0]]]
