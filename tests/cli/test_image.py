from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from tests.cli.conftest import Ran, check_refused

Run = Callable[..., Ran]


def read_json(path: Path) -> dict[str, object]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not json")

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len({key for key, _ in pairs}) == len(pairs), "a key stands twice"
        return dict(pairs)

    return json.loads(path.read_text("utf-8"), parse_constant=refuse, object_pairs_hook=once)


def test_files_are_written_and_their_paths_printed(run: Run, picture: Path, vit: Path, tmp_path: Path):
    out = tmp_path / "new" / "folder"
    ran = run("image", picture, "--model", vit, "--start", "59,0", "--formats", "png,pdf", "--out", out)
    assert ran.code == 0
    chosen, timed = ran.stderr.splitlines()
    assert chosen.endswith(", layer 2 of 0–2 (model.layer.2.attention), heads lambda2, tokens image")
    assert chosen.startswith("noise.png: ")
    assert timed.startswith("noise.png: ")
    names = [f"noise-{n}" for n in ("bounces.png", "bounces.pdf", "lambda2.png", "lambda2.pdf", "table.json")]
    assert ran.paths == [out / name for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert PIL.Image.open(out / "noise-bounces.png").size[0] == 2070
    assert (out / "noise-lambda2.pdf").read_bytes().startswith(b"%PDF-")

    table = read_json(out / "noise-table.json")
    assert table["analysis"]["pixels"] == [60, 40]
    assert table["analysis"]["layer"] == 2
    assert table["analysis"]["start"] == pytest.approx([59.5 / 60, 0.5 / 40])
    assert len(table["heads"]) == 3 * 2
    assert len(table["tokens"]) == 4 * 6
    assert table["tokens"][5]["start"] == 1


def test_options_reach_the_analysis(run: Run, picture: Path, vit: Path, tmp_path: Path):
    options = ["--layer", "-3", "--heads", "1", "--start", "0.1,0.9", "--n", "3", "--alpha", "0.5"]
    ran = run(
        "image",
        picture,
        "--model",
        vit,
        *options,
        "--size",
        24,
        "--tokens",
        "all",
        "--out",
        tmp_path,
        "--formats",
        "svg",
    )
    assert ran.code == 0
    assert [path.name for path in ran.paths] == ["noise-bounces.svg", "noise-lambda2.svg", "noise-table.json"]
    facts = read_json(tmp_path / "noise-table.json")["analysis"]
    assert facts["layer"] == 0
    assert facts["heads"] == 1
    assert facts["start"] == [0.1, 0.9]
    assert facts["bounces"] == [1, 2, 3]
    assert facts["alpha"] == 0.5
    assert facts["grid"] == [2, 3]
    assert facts["tokens"] == 3 + 6
    assert facts["caption"] == "layer 0 of 0–2 (model.layer.0.attention), heads 1, tokens all"


def test_parquet_holds_what_json_holds(run: Run, picture: Path, vit: Path, tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run("image", picture, "--model", vit, "--out", tmp_path, "--formats", "png").code == 0
    ran = run("image", picture, "--model", vit, "--out", tmp_path, "--formats", "png", "--table", "parquet")
    assert ran.code == 0
    table = read_json(tmp_path / "noise-table.json")
    for name in ("heads", "tokens"):
        stored = parquet.read_table(tmp_path / f"noise-table-{name}.parquet")
        assert stored.to_pylist() == table[name]
        notes = {key.decode(): json.loads(value) for key, value in stored.schema.metadata.items()}
        assert notes == table["analysis"]
    # and may be replaced
    assert run("image", picture, "--model", vit, "--out", tmp_path, "--formats", "png", "--table", "parquet").code == 0


def test_own_files_are_replaced_and_no_others(run: Run, picture: Path, vit: Path, tmp_path: Path):
    command = ["image", picture, "--model", vit, "--out", tmp_path, "--formats", "png,pdf,svg"]
    assert run(*command).code == 0
    assert run(*command, "--start", "0,0").code == 0
    assert read_json(tmp_path / "noise-table.json")["analysis"]["start"] == pytest.approx([0.5 / 60, 0.5 / 40])

    theirs = tmp_path / "noise-lambda2.png"
    PIL.Image.new("RGB", (3, 3)).save(theirs)
    before = theirs.read_bytes()
    ran = run(*command)
    assert ran.code == 1
    assert "lambda2.png' exists and was not made by tokenrank; move it, or choose another folder" in ran.stderr
    assert theirs.read_bytes() == before


def test_pixels_are_those_of_the_upright_picture(run: Run, vit: Path, tmp_path: Path):
    path = tmp_path / "turned.jpg"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    PIL.Image.new("RGB", (60, 40), "teal").save(path, exif=exif)
    outside = run("image", path, "--model", vit, "--start", "50,10", "--out", tmp_path / "out")
    assert "outside the picture of 40 × 60 pixels: x from 0 to 39" in outside.stderr
    assert run("image", path, "--model", vit, "--start", "10,50", "--out", tmp_path / "out").code == 0
    assert read_json(tmp_path / "out" / "turned-table.json")["analysis"]["pixels"] == [40, 60]


def test_names_that_are_not_utf8(run: Run, picture: Path, vit: Path, tmp_path: Path):
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 [red]$.png"))
    try:
        strange.write_bytes(picture.read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    ran = run("image", strange, "--model", vit, "--out", tmp_path / "out", "--formats", "png")
    assert ran.code == 0, ran.stderr
    assert ran.stderr.startswith("caf\\udce9 [red]$.png: ")
    (table,) = (tmp_path / "out").glob("*-table.json")
    assert os.fsencode(table.name) == b"caf\xe9 [red]$-table.json"
    assert read_json(table)["analysis"]["picture"].endswith("caf\\udce9 [red]$.png")


@pytest.mark.parametrize("mode", ["CMYK", "I;16"])
def test_all_kinds_of_pictures(run: Run, vit: Path, tmp_path: Path, mode: str):
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    PIL.Image.new(mode, (30, 20)).save(path)
    assert run("image", path, "--model", vit, "--out", tmp_path, "--formats", "png", "--size", 24).code == 0


@pytest.mark.parametrize("size", [(1, 1), (20_000, 20)])
def test_extreme_sizes(run: Run, vit: Path, tmp_path: Path, size: tuple[int, int]):
    path = tmp_path / "picture.png"
    PIL.Image.new("RGB", size, "teal").save(path)
    ran = run("image", path, "--model", vit, "--start", "0,0", "--out", tmp_path, "--formats", "png", "--size", 24)
    assert ran.code == 0, ran.stderr
    assert PIL.Image.open(tmp_path / "picture-bounces.png").size[0] == 2070


def truncated() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.effect_noise((64, 64), 50).save(buffer, "jpeg")
    return buffer.getvalue()[:600]


BAD_PICTURES = {
    "empty.png": (b"", "is empty (0 bytes)"),
    "words.png": (b"hello", "is not a picture"),
    "half.jpg": (truncated(), "broken or truncated"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_pictures(run: Run, vit: Path, tmp_path: Path, name: str):
    content, words = BAD_PICTURES[name]
    (tmp_path / name).write_bytes(content)
    check_refused(run("image", tmp_path / name, "--model", vit, "--out", tmp_path / "out"), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--layer", "model.layer.1.atention"],
            "no layer 'model.layer.1.atention'; nearest: 'model.layer.1.attention'",
        ),
        (["--layer", "3"], "no layer 3: there are 3"),
        (["--layer", "model"], "fits 3 layers"),
        (["--heads", "2"], "no head 2 in layer 'model.layer.2.attention': it has 2"),
        (["--tokens", "imge"], "no tokens 'imge' in layer 'model.layer.2.attention'; nearest: 'image'; all: 'cls'"),
        (["--start", "60,0"], "outside the picture of 60 × 40 pixels: x from 0 to 59, y from 0 to 39"),
        (["--start", "-1,0"], "outside the picture"),
        (["--size", "7"], "size = 7 is less than one patch of 8 × 8 pixels; expected 8 or more, such as 128"),
        (["--size", "100000"], "patches"),
        (["--model", "./nowhere"], "no model folder './nowhere'"),
    ],
)
def test_options_that_do_not_fit_what_is_read(
    run: Run, picture: Path, vit: Path, tmp_path: Path, options: list[str], words: str
):
    check_refused(run("image", picture, "--model", vit, "--out", tmp_path / "out", *options), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--heads", "lambda"],
            "no heads 'lambda'; nearest: 'lambda2'; all: 'lambda2', 'uniform'; or numbers",
        ),
        (["--start", "0.5,1.5"], "fractions from 0 to 1"),
        (["--start", "here"], "start 'here' is not x,y; give pixels"),
        (["--start", "nan,0.5"], "start 'nan,0.5' is not x,y"),
        (["--n", "0"], "n = '0', expected 1 to 10,000"),
        (["--n", "-1"], "n = '-1', expected 1 to 10,000"),
        (["--alpha", "1.01"], "alpha = '1.01', expected a number from 0 to 1"),
        (["--alpha", "nan"], "alpha = 'nan'"),
        (["--alpha", "much"], "alpha = 'much'"),
        (["--size", "0"], "size = '0', expected a whole number, 1 or more"),
        (["--formats", "png,gif"], "no figure format 'gif'; expected one of 'png', 'pdf', 'svg'"),
        (["--formats", ","], "no figure format given"),
        (["--table", "csv"], "table = 'csv'; expected one of 'json', 'parquet'"),
        (["--scale", "share"], "scale = 'share'; nearest: 'shared'"),
    ],
)
def test_misuse_is_told_before_anything_is_read(run: Run, tmp_path: Path, options: list[str], words: str):
    check_refused(run("image", tmp_path / "none.png", "--model", "./nowhere", *options), words, code=2)


def test_missing_file_and_folder(run: Run, picture: Path, tmp_path: Path):
    check_refused(run("image", picture.parent / "nose.png", "--out", tmp_path), "nearest: 'noise.png'")
    check_refused(run("image", picture.parent / "xyz.jpg", "--out", tmp_path), "in its folder no name is near to it")
    empty = tmp_path / "empty"
    empty.mkdir()
    check_refused(run("image", empty, "--out", tmp_path), "no picture in the folder")
    (empty / "notes.txt").write_text("a text")
    check_refused(run("image", empty, "--out", tmp_path), "what it holds, such as 'notes.txt', is none")


@pytest.mark.parametrize("address", ["https://example.org/cat.jpg", "file:///cat.jpg", "data:image/png;base64,AAAA"])
def test_an_address_is_refused_in_one_sentence(run: Run, tmp_path: Path, address: str):
    for command in ("image", "segment", "cluster", "saliency"):
        check_refused(run(command, address, "--out", tmp_path), "is an address; download it first, and give the file")


@pytest.mark.parametrize("kind", ["black", "clear", "one"])
def test_of_a_picture_of_one_colour_it_is_told_that_nothing_is_there(run: Run, vit: Path, tmp_path: Path, kind: str):
    picture = {
        "black": PIL.Image.new("RGB", (60, 40)),
        "clear": PIL.Image.new("RGBA", (60, 40)),
        "one": PIL.Image.new("RGB", (1, 1), "teal"),
    }[kind]
    picture.save(tmp_path / f"{kind}.png")
    for command in ("image", "segment", "cluster", "saliency"):
        ran = run(command, tmp_path / f"{kind}.png", "--model", vit, "--out", tmp_path / "out")
        assert ran.code == 0, ran.stderr
        told = [line for line in ran.stderr.splitlines() if line.startswith("warning: ")]
        assert f"'{kind}.png'" in told[0]
        assert "all over" in told[0]
        assert "nothing is there" in told[0]


def test_a_board_of_all_heads(run: Run, picture: Path, vit: Path, tmp_path: Path):
    ran = run("image", picture, "--model", vit, "--board", "--formats", "png,pdf", "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    assert {"noise-board.png", "noise-board.pdf"} <= set(ran.names)


def test_all_maps_on_one_scale(run: Run, picture: Path, vit: Path, tmp_path: Path):
    drawn = {}
    for scale in ("each", "shared"):
        ran = run("image", picture, "--model", vit, "--scale", scale, "--out", tmp_path)
        assert ran.code == 0, ran.stderr
        drawn[scale] = (tmp_path / "noise-bounces.png").read_bytes()
    assert drawn["each"] != drawn["shared"]


def test_a_text_model_is_refused(run: Run, picture: Path, bert: Path, tmp_path: Path):
    check_refused(run("image", picture, "--model", bert, "--out", tmp_path), "reads text, but kind='image' was asked")


def test_out_is_checked_before_any_work(run: Run, picture: Path, tmp_path: Path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("mine")
    for out in (in_the_way, in_the_way / "below"):
        ran = run("image", picture, "--model", "./nowhere", "--out", out)
        check_refused(ran, "file' is a file; choose another folder with --out")
    assert in_the_way.read_text() == "mine"
