"""The recipe of the bundled picture network, end to end: a tiny teacher, two small shards, a few steps."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

import tokenrank as tr

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")

from training.augment import Crops  # noqa: E402
from training.data import MEAN, STD, load_split  # noqa: E402
from training.match import attention_loss, common, feature_loss  # noqa: E402
from training.network import SIZE  # noqa: E402
from training.optim import set_rates  # noqa: E402
from training.teacher import Teacher  # noqa: E402
from training.train import Pictures, Recipe, Run, train  # noqa: E402
from training.validate import validate  # noqa: E402

CPU = torch.device("cpu")
TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 24}
FEW = Recipe(seconds=8, batch=1, grids=(4, 3), width=24, sizes=(32,), workers=1)


def shard(file: Path, pictures: np.ndarray, labels: list[int] | None) -> None:
    """Pictures (M, H, W, 3) as JPEG."""
    blobs = []
    for pixels in pictures:
        held = io.BytesIO()
        Image.fromarray(pixels).save(held, "JPEG", quality=95)
        blobs.append(held.getvalue())
    table = {"image": blobs} | ({} if labels is None else {"label": labels})
    pa.parquet.write_table(pa.table(table), file)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for name, count in (("train-0", 12), ("train-1", 4), ("val", 6)):
        labels = random.integers(0, 200, count).tolist()
        shard(folder / f"{name}.parquet", random.integers(0, 256, (count, 64, 64, 3), np.uint8), labels)
    shard(folder / "extra-0.parquet", random.integers(0, 256, (3, 40, 60, 3), np.uint8), None)
    return folder


@pytest.fixture(scope="module", params=["plain", "registers"])
def teacher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    kinds = {
        "plain": lambda: Dinov2Model(Dinov2Config(**TINY, image_size=56, patch_size=14)),
        "registers": lambda: Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(**TINY, image_size=56, patch_size=14, num_register_tokens=2)
        ),
    }
    folder = tmp_path_factory.mktemp(request.param)
    kinds[request.param]().save_pretrained(folder)
    return folder


class Ticks:
    """A clock that moves on by one second whenever it is looked at, and may stop the run at one."""

    def __init__(self, until: float = float("inf")) -> None:
        self.now, self.until = 0.0, until

    def __call__(self) -> float:
        self.now += 1
        if self.now > self.until:
            raise KeyboardInterrupt
        return self.now


# ---- the whole recipe


def test_the_exported_network_is_loaded_and_classifies(teacher: Path, data: Path, tmp_path: Path) -> None:
    facts = train(teacher, data, tmp_path, FEW, Ticks())
    folder = tmp_path / "model"
    assert facts["steps"] == 8
    assert facts["seen"] == 4 * 16 + 4 * 16  # 16 of 16 patches, 28 of 9 patches rounded down to 16
    assert (facts["images"], facts["sharp"], facts["attention_layers"]) == (16, 3, [0, 1])
    assert json.loads((folder / "training.json").read_text()) == json.loads(json.dumps(facts))
    model = tr.load(folder)
    observation = tr.observe(tr.samples.path("coffee"), model)
    assert len(observation.layers) == 2
    assert max(observation.grid) == SIZE // 8
    assert model.images.mean == MEAN
    assert model.images.std == STD
    assert facts["top1_cls"] == {"32": validate(folder, data, (32,))["32"]["cls"]}
    heads = tr.models.model.bundled_head(folder)
    assert heads(observation.output).shape == (1, 200)


def test_a_stopped_run_continues_as_if_it_had_not_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**TINY, image_size=56, patch_size=14)).save_pretrained(tmp_path / "teacher")
    monkeypatch.setattr("training.train.SAVE_EVERY", 0.5)
    train(tmp_path / "teacher", data, tmp_path / "whole", FEW, Ticks())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "teacher", data, tmp_path / "parts", FEW, Ticks(until=5))
    assert not (tmp_path / "parts/model").exists()
    facts = train(tmp_path / "teacher", data, tmp_path / "parts", FEW, Ticks())
    # four steps before the stop and four after it; the fifth, whose clock was never read, is done again
    assert facts["steps"] == 8
    whole, parts = ((tmp_path / name / "model/model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_what_is_compared_comes_closer(tmp_path: Path) -> None:
    """The same pictures again and again."""
    Dinov2Model(Dinov2Config(**TINY, image_size=56, patch_size=14)).save_pretrained(tmp_path)
    pictures = Pictures(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8), torch.arange(4), torch.empty(0))
    run = Run(Teacher(tmp_path, CPU), pictures, Recipe(seconds=1e9, batch=1, grids=(4,), width=24), CPU)
    first, last = (found for _ in range(26) if (found := run.step()) is not None)
    assert last["features"] < 0.9 * first["features"]
    assert last["cls"] < first["cls"]


# ---- its parts


def test_shards_become_pictures_and_labels(data: Path, tmp_path: Path) -> None:
    pixels = np.full((2, 64, 64, 3), (200, 40, 90), np.uint8)
    shard(tmp_path / "train.parquet", pixels, [7, 9])
    pictures, labels = load_split(tmp_path, "train", 64)
    assert (pictures.shape, pictures.dtype, labels.tolist()) == ((2, 3, 64, 64), torch.uint8, [7, 9])
    assert (pictures.permute(0, 2, 3, 1).int() - torch.tensor((200, 40, 90))).abs().max() <= 3  # JPEG
    assert torch.equal(load_split(data, "train", 64)[0], load_split(data, "train", 64, workers=2)[0])
    with pytest.raises(FileNotFoundError, match=r"no test\*\.parquet"):
        load_split(data, "test", 64)


def test_a_picture_of_another_shape_is_cut_to_its_middle(tmp_path: Path) -> None:
    pixels = np.zeros((1, 40, 120, 3), np.uint8)
    pixels[:, :, 40:80] = 255
    shard(tmp_path / "extra.parquet", pixels, None)
    pictures, labels = load_split(tmp_path, "extra", 32)
    assert labels.tolist() == [-1]
    assert pictures.shape == (1, 3, 32, 32)
    assert pictures.float().mean() > 245


def test_crops_are_the_same_at_every_size() -> None:
    """A smooth picture: what 28 pixels show is what 56 show, averaged."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    smooth = (255 * torch.stack([y, x, (x + y) / 2])).to(torch.uint8)[None].expand(6, -1, -1, -1)
    crops = Crops(smooth)
    coarse = torch.nn.functional.avg_pool2d(crops.at(56), 2)
    assert (crops.at(28) - coarse).abs().max() < 0.05
    assert not torch.allclose(crops.at(28)[0], crops.at(28)[1], atol=0.05)


@pytest.mark.parametrize("prefix", [1, 5])
def test_the_distance_of_attention_is_the_divergence_of_what_both_have(prefix: int) -> None:
    """Against a loop in float64."""
    g = torch.Generator().manual_seed(1)
    student = torch.randn(2, 3, 5 + 6, 5 + 6, generator=g).softmax(-1)
    teacher = torch.randn(2, 3, prefix + 6, prefix + 6, generator=g).softmax(-1)
    kept = {5: [0, *range(5, 11)], 1: list(range(7))}
    total = []
    for b in range(2):
        for h in range(3):
            for row in range(7):
                p = teacher[b, h, kept[prefix][row], kept[prefix]].double()
                q = student[b, h, kept[5][row], kept[5]].double()
                p, q = p / p.sum(), q / q.sum()
                total.append(float((p * (p / q).log()).sum()))
    found = attention_loss([student], [teacher], [0], prefix)
    assert float(found) == pytest.approx(np.mean(total), abs=1e-5)
    assert float(attention_loss([student], [student], [0], 5)) == pytest.approx(0, abs=1e-6)
    assert torch.allclose(common(teacher, prefix).sum(-1), torch.ones(()))


def test_attention_is_pulled_towards_the_teachers() -> None:
    """The gradient of KL(t ‖ softmax(z)) with respect to z is softmax(z) − t; registers are not pulled at."""
    g = torch.Generator().manual_seed(2)
    logits = torch.randn(1, 1, 8, 8, generator=g, requires_grad=True)
    teacher = torch.randn(1, 1, 4, 4, generator=g).softmax(-1)
    attention_loss([logits.softmax(-1)], [teacher], [0], 1).backward()
    kept = torch.tensor([0, 5, 6, 7])
    among = kept[:, None], kept
    expected = torch.zeros(8, 8)
    expected[among] = (logits.detach()[0, 0][among].softmax(-1) - teacher[0, 0]) / 4
    assert logits.grad is not None
    assert torch.allclose(logits.grad[0, 0], expected, atol=1e-5)


def test_equal_features_have_no_distance() -> None:
    x = torch.randn(2, 3, 8)
    assert float(feature_loss(x, x)) == pytest.approx(0, abs=1e-6)
    assert float(feature_loss(-x, x)) > 2


@pytest.mark.parametrize(("grid", "count"), [(16, 256), (12, 448), (20, 160), (4, 4096)])
def test_batches_have_as_many_patches(grid: int, count: int) -> None:
    assert Recipe().pictures(grid) == count


def test_rates_rise_and_fall() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    optimizer.param_groups[0]["full_rate"] = 2e-3

    def rate(step: int, progress: float) -> float:
        set_rates([optimizer], step, progress)
        return float(optimizer.param_groups[0]["lr"])

    assert rate(0, 0) == pytest.approx(2e-5, rel=0.01)
    assert rate(10_000, 0) == pytest.approx(2e-3, rel=0.01)
    assert rate(10_000, 0.5) == pytest.approx(1e-3, rel=0.02)
    assert rate(10_000, 1) == pytest.approx(1e-5, rel=0.02)
