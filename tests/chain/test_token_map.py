"""TokenMap: a result on tokens, ready to look at."""

from __future__ import annotations

import base64
import io
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tokenrank as tr
from tokenrank import AttentionChain, TokenLayout, TokenMap
from tokenrank.chain.drawing import CELLS, LARGE, SMALL, drawn
from tokenrank.chain.heat import as_image, heat_over
from tokenrank.errors import ChainError, InputError, LayoutError, NotFoundError
from tokenrank.markov import Certificate

ROWS, COLUMNS = 3, 5
VIT = TokenLayout.image(ROWS, COLUMNS, cls_tokens=1, registers=2)


def image_map(*batch: int, layout: TokenLayout | None = VIT) -> TokenMap:
    values = torch.rand(*batch, 18)
    return TokenMap(values / values.sum(-1, keepdim=True), layout)


def text_map(*tokens: str) -> TokenMap:
    values = torch.arange(len(tokens), 0, -1.0)
    return TokenMap(values / values.sum(), TokenLayout.text(tokens))


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# ---- grid


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_grid(batch: tuple[int, ...]) -> None:
    found = image_map(*batch)
    grid = found.grid()
    assert grid.shape == (*batch, ROWS, COLUMNS)
    assert torch.equal(grid[..., 0, :], found.values[..., 3:8])  # row by row, after CLS and registers
    assert torch.equal(grid[..., 2, 4], found.values[..., 17])


def test_grid_of_one_picture_of_two() -> None:
    layout = TokenLayout({"left": 4, "text": 2, "right": 6}, {"left": (2, 2), "right": (2, 3)})
    found = TokenMap(torch.arange(12.0), layout)
    assert found.grid("left").tolist() == [[0, 1], [2, 3]]
    assert found.grid("right").tolist() == [[6, 7, 8], [9, 10, 11]]
    with pytest.raises(LayoutError, match="several spans have one"):
        found.grid()
    with pytest.raises(LayoutError, match=r"span 'text' has no grid; spans with one: \['left', 'right'\]"):
        found.grid("text")
    with pytest.raises(NotFoundError, match="no span 'lft' in this layout; nearest: 'left'"):
        found.grid("lft")


def test_no_layout_no_grid() -> None:
    with pytest.raises(LayoutError, match="give the chain a layout"):
        image_map(layout=None).grid()
    with pytest.raises(LayoutError, match="no span has a grid"):
        text_map("a", "b").grid()


# ---- upsample


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_upsample(mode: str, batch: tuple[int, ...]) -> None:
    found = image_map(*batch)
    large = found.upsample((30, 20), mode)
    assert large.shape == (*batch, 30, 20)
    if mode == "nearest":
        assert torch.equal(large[..., ::10, ::4], found.grid())
    if mode != "bicubic":
        assert large.amin() >= found.grid().amin()
        assert large.amax() <= found.grid().amax()


def test_upsample_of_an_even_map_is_even() -> None:
    large = TokenMap(torch.full((18,), 1 / 18), VIT).upsample((64, 48))
    assert torch.allclose(large, torch.full((64, 48), 1 / 18))


# ---- mask


def test_mask_above_the_mean() -> None:
    found = image_map(2, 3)
    mask = found.mask()
    grid = found.grid()
    assert mask.dtype == torch.bool
    assert torch.equal(mask, grid > grid.mean((-2, -1), keepdim=True))  # of the picture, not of all tokens
    assert mask.any()
    assert not mask.all()


def test_mask_without_a_picture() -> None:
    assert TokenMap(torch.tensor([0.1, 0.2, 0.7])).mask().tolist() == [False, False, True]
    assert text_map("a", "b", "c").mask().tolist() == [True, False, False]


@pytest.mark.parametrize("share", [0.1, 0.6, 0.99, 1.0, 1])
def test_mask_by_mass(share: float) -> None:
    """The fewest tokens that hold that share."""
    found = image_map(4)
    grid, mask = found.grid(), found.mask(share)
    total = grid.sum((-2, -1))
    held = (grid * mask).sum((-2, -1))
    assert (held >= share * total - 1e-6).all()
    smallest = torch.where(mask, grid, torch.inf).amin((-2, -1))
    assert (held - smallest < share * total).all()
    assert (torch.where(mask, -torch.inf, grid).amax((-2, -1)) <= smallest).all()


def test_mask_of_an_even_map() -> None:
    """Where only rounding decides there is no foreground, whatever the rule."""
    for dtype in (torch.float32, torch.float64):
        even = torch.full((4, 18), 1 / 18, dtype=dtype)
        even[1:] *= 1 + torch.finfo(dtype).eps * torch.randint(-2, 3, (3, 18))
        for rule in ("mean", 0.6, 1.0):
            assert not TokenMap(even, VIT).mask(rule).any()
        assert TokenMap(even, VIT).mask(None).all()


def test_mask_of_a_map_that_is_nearly_even() -> None:
    values = torch.full((18,), 1 / 18, dtype=torch.float64)
    values[5] += 1e-7
    assert TokenMap(values, VIT).mask().nonzero().tolist() == [[0, 2]]


@pytest.mark.parametrize("rule", ["median", 0, 0.0, -0.1, 1.5, True, float("nan")])
def test_wrong_rule(rule: Any) -> None:
    with pytest.raises(InputError, match=r"rule = .*, expected 'mean', a share of the mass in \(0, 1\]"):
        image_map().mask(rule)


# ---- indexing


def test_index() -> None:
    found = image_map(2, 3)
    assert torch.equal(found[1].values, found.values[1])
    assert torch.equal(found[..., 2].values, found.values[:, 2])
    assert torch.equal(found[0, 1].grid(), found.grid()[0, 1])
    assert found[0].layout == VIT


def test_index_takes_the_certificate_along() -> None:
    rank = AttentionChain(torch.randn(2, 3, 18, 18).softmax(-1), VIT).tokenrank()
    for index in (0, (1, 2), (slice(None), 1), (..., 2)):
        part = rank[index]
        assert part.certificate is not None
        assert rank.certificate is not None
        assert part.certificate.converged.shape == part.values.shape[:-1]
        assert torch.equal(part.certificate.residual, rank.certificate.residual[index])
        assert torch.equal(part.certificate.error_bound, rank.certificate.error_bound[index])
        assert part.certificate.applies == rank.certificate.applies


def test_index_of_a_certificate_without_a_bound() -> None:
    rate = AttentionChain(torch.randn(3, 18, 18).softmax(-1)).entropy_rate()
    assert rate[1].certificate.error_bound is None


@pytest.mark.parametrize("index", [2, (0, 3), (0, 0, 0), "cls", slice(0, 0)])
def test_wrong_indices(index: Any) -> None:
    with pytest.raises(ChainError, match=r"leading dimensions \(2, 3\)"):
        image_map(2, 3)[index]


# ---- top


def test_top() -> None:
    assert text_map("a", "b", "c").top(2) == [(0, "a", 0.5), (1, "b", pytest.approx(1 / 3))]
    assert len(image_map().top(100)) == 18
    assert image_map().top(1)[0][1] == ""


def test_a_batch_has_no_top() -> None:
    with pytest.raises(ChainError, match=r"shape \(2, 18\), expected one map \(N,\); index the batch"):
        image_map(2).top()


# ---- over a picture


@pytest.mark.parametrize("size", [(50, 30), (31, 77), (5, 3), (1, 1), (2000, 3)])
def test_overlay(size: tuple[int, int]) -> None:
    found = image_map().overlay(picture(*size))
    assert found.size == size
    assert found.mode == "RGB"


def test_overlay_puts_the_map_where_it_belongs() -> None:
    """Opaque: one bright patch, third row, second column."""
    values = torch.zeros(18)
    values[3 + 2 * COLUMNS + 1] = 1
    found = np.asarray(TokenMap(values, VIT).overlay(picture(50, 30), opacity=1.0), dtype=float).sum(-1)
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert 20 <= y < 30
    assert 10 <= x < 20
    assert found[:15].max() < found.max() / 4


@pytest.mark.parametrize("kind", ["path", "array", "floats", "tensor", "PIL"])
def test_overlay_takes_any_picture(kind: str, tmp_path: Path) -> None:
    original = picture(40, 24)
    path = tmp_path / "picture.png"
    original.save(path)
    array = np.asarray(original)
    given: Any = {
        "path": path,
        "array": array,
        "floats": array / 255,
        "tensor": torch.from_numpy(array.copy()).permute(2, 0, 1),
        "PIL": original,
    }[kind]
    found = image_map()
    grey = np.asarray(original.convert("L"))  # so that colours are those of the map alone
    assert (np.asarray(found.overlay(given, 0.0)) == grey[..., None]).all()
    expected = np.asarray(found.overlay(original, 0.6), dtype=int)
    assert np.abs(np.asarray(found.overlay(given, 0.6), dtype=int) - expected).max() <= 1


def test_an_overlay_is_the_heat_of_the_figures() -> None:
    """One path from a map to its colours: cubic, over grey, from percentiles of the patches."""
    found, original = image_map(), picture(40, 24)
    assert np.array_equal(np.asarray(found.overlay(original)), as_image(heat_over(original, found.grid(), (24, 40))))


def test_what_has_no_number_is_grey_and_spoils_nothing() -> None:
    values = torch.arange(18.0)
    values[3] = torch.inf
    drawn = heat_over(Image.new("L", (50, 30)), TokenMap(values, VIT).grid(), (30, 50), opacity=1.0)
    assert np.isfinite(drawn).all()
    assert (drawn[:10, :10] == 0.55).all()
    assert not (drawn[:, 10:] == 0.55).any()


def test_overlay_of_a_missing_file() -> None:
    with pytest.raises(InputError, match=r"no-such\.png"):
        image_map().overlay("no-such.png")


def test_overlay_of_a_batch_or_of_text() -> None:
    with pytest.raises(ChainError, match="index the batch"):
        image_map(2).overlay(picture(8, 8))
    with pytest.raises(LayoutError, match="no span has a grid"):
        text_map("a", "b").overlay(picture(8, 8))


@pytest.mark.parametrize("opacity", [-0.1, 1.5, float("nan")])
def test_wrong_opacity(opacity: float) -> None:
    with pytest.raises(InputError, match=r"opacity = .*, expected a number from 0 to 1"):
        image_map().overlay(picture(8, 8), opacity)


def test_wrong_colours() -> None:
    with pytest.raises(NotFoundError, match="no colour map 'magmaa'; nearest: 'magma'"):
        image_map().overlay(picture(8, 8), colours="magmaa")


# ---- figures and files


@pytest.mark.parametrize("found", [image_map(), text_map("a", "b"), image_map(layout=None), image_map(1, 1)], ids=str)
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_save_figures(found: TokenMap, ending: str, tmp_path: Path) -> None:
    path = found.save(tmp_path / f"map.{ending}")
    assert path == tmp_path / f"map.{ending}"
    head = path.read_bytes()[:600]
    assert {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF"}[ending] in head


def test_save_values(tmp_path: Path) -> None:
    found = image_map(2, 3)
    path = found.save(str(tmp_path / "map.npy"))
    assert np.array_equal(np.load(path), found.values.numpy())


@pytest.mark.parametrize("name", ["map.jpeg", "map", "map.exe"])
def test_save_under_another_ending(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write 'map.*expected .png, .svg, .pdf or .npy"):
        image_map().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_save_into_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        image_map().save(tmp_path / "missing" / "map.png")


def test_a_batch_has_no_figure(tmp_path: Path) -> None:
    with pytest.raises(ChainError, match="index the batch"):
        image_map(2).save(tmp_path / "map.png")


def test_the_figure_shows_the_map_as_the_page_does() -> None:
    found = image_map()
    ((alone,),) = (axes.images for axes in found.figure().axes)
    assert alone.get_array().shape == (ROWS * 200, COLUMNS * 200, 3)
    over = replace(found, picture=picture(50, 30))
    ((shown,),) = (axes.images for axes in over.figure().axes)
    assert np.array_equal(np.asarray(shown.get_array()), np.asarray(over.overlay()))


def test_the_figure_shows_the_largest_tokens_first() -> None:
    (axes,) = text_map("a", "b", "c").figure().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2 c", "1 b", "0 a"]
    assert [patch.get_width() for patch in axes.patches] == pytest.approx([1 / 6, 1 / 3, 1 / 2])


HOSTILE = [
    "<script>alert(1)</script>",
    "--><script>",
    "$\\frac",
    "$x$",
    "$\\frac$",
    "_{^",
    "%s %d {0}",
    "\x00",
    "\n\r\t",
    "\x1b[31m",
    "\ud800",
    "\u202eevil",
    "🙂",
    "漢字",
    "x" * 5000,
    "",
    " ",
    "&lt;&#60;",
]


@pytest.mark.parametrize("token", HOSTILE, ids=lambda token: ascii(token)[:20])
def test_hostile_tokens(token: str, tmp_path: Path) -> None:
    found = text_map(token, "b", "b")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # drawn as a box, which is fine
        warnings.simplefilter("error", SyntaxWarning)
        page = found._repr_html_()
        svg = found.save(tmp_path / "map.svg").read_text(encoding="utf-8")
    assert page is not None
    assert "<script" not in page
    assert "<script" not in svg
    assert found.top(1)[0][1] == token


def test_dollar_signs_are_no_formulas() -> None:
    """matplotlib would set $x$ in italics, without the signs."""
    figure = text_map("$x$", "b").figure()
    figure.canvas.draw()
    labels = figure.axes[0].get_yticklabels()
    assert labels[-1].get_text() == "0 $x$"
    assert not any(label.get_parse_math() for label in labels)


def test_tokens_of_one_string_stay_apart() -> None:
    (axes,) = text_map("the", "the", "the").figure().axes
    assert len(axes.patches) == 3


def test_long_tokens_leave_room_for_the_bars() -> None:
    figure = text_map("x" * 5000, "b").figure()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    assert figure.axes[0].get_position().width > 0.3


def pictures_in(page: str) -> list[Image.Image]:
    found = re.findall(r"data:image/(?:png|jpeg);base64,([^\"]*)", page)
    return [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in found]


def test_html() -> None:
    certificate = Certificate(torch.tensor(True), torch.tensor(1e-9), torch.tensor(1e-7), 12, "<power>")
    page = TokenMap(image_map().values, VIT, certificate)._repr_html_()
    assert "converged" in page
    assert "<power>" not in page
    assert "&lt;power&gt;" in page
    assert "not drawn: cls, registers" in page
    (heat,) = pictures_in(page)
    assert heat.size == (LARGE, LARGE * ROWS // COLUMNS)
    assert "linear-gradient" in page


def similar(drawn: Image.Image, expected: Image.Image) -> bool:
    """Whether two pictures are one but for JPEG."""
    return bool(
        np.abs(np.asarray(drawn, dtype=float) - np.asarray(expected.resize(drawn.size), dtype=float)).mean() < 6
    )


def test_html_shows_the_map_on_its_picture() -> None:
    values = torch.zeros(18)
    values[3 + 2 * COLUMNS + 1] = 1
    original = picture(50, 30)
    shown = TokenMap(values, VIT, picture=original)
    (drawn,) = pictures_in(shown._repr_html_())
    assert drawn.width / drawn.height == pytest.approx(5 / 3, rel=0.01)
    assert similar(drawn, as_image(heat_over(original, shown.grid(), drawn.size[::-1])))
    assert not similar(drawn, original)
    page = replace(shown, picture=picture(5000, 3000))._repr_html_()
    assert len(page) < 100_000  # a notebook is no place for megabytes


def test_a_start_is_marked() -> None:
    layout = TokenLayout.image(4, 4, cls_tokens=0)
    chain = tr.AttentionChain(torch.full((16, 16), 1 / 16), layout)
    chain = tr.AttentionChain.from_operator(chain.operator, layout, Image.new("RGB", (64, 64)))
    bounced = chain.bounce(tr.at(0.9, 0.1))
    (drawn,) = pictures_in(bounced._repr_html_())
    bright = np.argwhere(np.asarray(drawn).min(-1) > 200) / drawn.width
    assert len(bright)
    assert np.abs(bright.mean(0) - [0.125, 0.875]).max() < 0.02  # the middle of the last patch of the first row
    # a start nowhere in particular, and one that is not known, are not marked
    for other in (chain.bounce(range(16)), replace(bounced, start=None)):
        (plain,) = pictures_in(other._repr_html_())
        assert np.asarray(plain).min(-1).max() < 200


def test_starts_are_marked_each_on_its_map() -> None:
    layout = TokenLayout.image(4, 4, cls_tokens=0)
    chain = tr.AttentionChain(torch.full((3, 16, 16), 1 / 16), layout)
    found = chain.bounce([[0], [5, 6]], path=True)
    assert found.start is not None
    assert found.start.shape == found.values.shape == (2, 2, 3, 16)
    assert found[1, 1, 2]._single().start.nonzero()[:, 0].tolist() == [5, 6]


def test_the_picture_goes_along() -> None:
    original = picture(50, 30)
    shown = replace(image_map(2, 3), picture=original)
    assert shown[1].picture is original
    assert shown[0, 1]._single().picture is original
    with pytest.raises(InputError, match=r"does not know its picture; give it: map.overlay\(image\)"):
        image_map().overlay()


def test_a_batch_shows_as_a_board() -> None:
    shown = image_map(3, 10)
    page = shown._repr_html_()
    assert len(pictures_in(page)) == CELLS
    assert "[0, 0]" in page
    assert "[2, 3]" in page
    assert "[2, 4]" not in page
    assert f"… and {30 - CELLS} more" in page
    assert all(max(cell.size) == SMALL for cell in pictures_in(page))


def test_each_map_of_a_board_has_its_own_scale_unless_they_share_one() -> None:
    values = torch.zeros(2, 18)
    values[0, 3], values[1, 3], values[1, -1] = 0.5, 0.5, 1.0
    own = pictures_in(TokenMap(values, VIT)._repr_html_())
    shared, words = drawn(TokenMap(values, VIT), "shared")
    assert "of each map" in TokenMap(values, VIT)._repr_html_()
    assert "of all maps together" in words
    corners = [[np.mean(cell.getpixel((4, 4))) for cell in pictures] for pictures in (own, pictures_in(shared))]
    assert abs(corners[0][0] - corners[0][1]) > 20
    assert abs(corners[1][0] - corners[1][1]) < 8


@pytest.mark.parametrize("layout", [None, TokenLayout.text(["word"] * 5000), TokenLayout.image(50, 100, cls_tokens=0)])
@pytest.mark.parametrize("batch", [(), (144,)])
def test_pages_stay_small(layout: TokenLayout | None, batch: tuple[int, ...]) -> None:
    values = torch.rand(*batch, 5000, generator=torch.Generator().manual_seed(0))
    assert len(TokenMap(values, layout)._repr_html_()) < 300_000


def test_a_sound_is_a_strip_over_its_waveform() -> None:
    noise = torch.rand(16_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    heard = tr.Sound(noise * torch.linspace(0, 1, 16_000), 16_000)
    layout = TokenLayout.audio(50, 0.02)
    values = torch.ones(50)  # one colour, so that all else is the waveform
    plain, over = TokenMap(values, layout), TokenMap(values, layout, picture=heard.picture())
    for shown in (plain, over):
        page = shown._repr_html_()
        assert "0 s" in page
        assert "1 s" in page
        (strip,) = pictures_in(page)
        assert strip.width > 5 * strip.height
    assert not similar(*(pictures_in(shown._repr_html_())[0] for shown in (plain, over)))
    # of a part of the sound that part of the waveform is shown: here its loud end, which fills the strip
    part = TokenMap(values[40:], layout.select(range(40, 50)), picture=heard.picture())
    ((strip,), (whole,)) = (pictures_in(shown._repr_html_()) for shown in (part, over))
    row = strip.height // 4
    assert np.asarray(strip)[row].mean() > np.asarray(whole)[row].mean() + 10


@pytest.mark.parametrize("layout", [VIT, None, TokenLayout.text(["a"] * 18), TokenLayout.video(2, 3, 3)])
def test_html_of_maps_with_infinities(layout: TokenLayout | None) -> None:
    values = torch.rand(2, 18)
    values[0, 5], values[1] = torch.inf, torch.nan
    page = TokenMap(values, layout)._repr_html_()
    assert "infinite, " in page
    assert "not defined" in page
    assert "nan" not in page.split("base64,")[0]


def test_html_of_two_pictures_in_one_layout() -> None:
    layout = TokenLayout({"left": 4, "text": 2, "right": 6}, {"left": (2, 2), "right": (2, 3)})
    assert len(pictures_in(TokenMap(torch.rand(12), layout)._repr_html_())) == 2


def test_html_of_text_are_its_words() -> None:
    page = text_map("the", "##se", "<b>")._repr_html_()
    assert not pictures_in(page)
    for word in (">the<", ">se<", ">&lt;b&gt;<"):
        assert word in page
    long = text_map(*["x"] * 6000)._repr_html_()
    assert "and 1,000 more tokens" in long


def test_show() -> None:
    """Draws through pyplot, so that notebooks and windows both show it."""
    import matplotlib.pyplot as plt

    before = len(plt.get_fignums())
    image_map().show()
    text_map("a", "b").show()
    assert len(plt.get_fignums()) == before + 2
    plt.close("all")


def test_repr() -> None:
    even = torch.full((2, 3, 18), 0.25)
    assert repr(TokenMap(even, VIT)) == "TokenMap(2 × 3 maps, 18 tokens (cls 1, registers 2, image 3 × 5), 0.25)"
    assert repr(TokenMap(torch.tensor([0.5, torch.inf]))) == "TokenMap(1 map, 2 tokens, 0.5, 1 of 2 infinite)"
    rank = AttentionChain(torch.eye(2)).tokenrank()
    assert repr(rank).startswith("TokenMap(1 map, 2 tokens, 0.5; converged, error ≤ ")


def test_double_precision_maps(tmp_path: Path) -> None:
    found = AttentionChain(torch.randn(18, 18, dtype=torch.float64).softmax(-1), VIT).tokenrank()
    assert found.values.dtype == torch.float64
    assert found.overlay(picture(20, 12)).size == (20, 12)
    assert found.upsample((6, 10)).dtype == torch.float64
    found.save(tmp_path / "map.png")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("layout", [VIT, None, TokenLayout.text(["a"] * 18)])
def test_html_of_other_numbers(dtype: torch.dtype, layout: TokenLayout | None) -> None:
    assert TokenMap((torch.rand(2, 18) * 3).to(dtype), layout)._repr_html_()


def test_html_of_maps_with_gradients() -> None:
    values = torch.rand(18, requires_grad=True)
    for layout in (VIT, None, TokenLayout.text(["a"] * 18)):
        assert TokenMap(values, layout, picture=picture(50, 30))._repr_html_()
