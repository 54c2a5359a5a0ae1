from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

import tokenrank as tr
from tokenrank.chain.foreground import foreground
from tokenrank.errors import CaptureError, InputError, LayoutError, NotFoundError
from tokenrank.layout import TokenLayout
from tokenrank.tasks.marks import mark_of
from tokenrank.tasks.masks import part_at
from tokenrank.tasks.segment import box_share, combined, mask_share, segment, start_map

GRID = (3, 4)
SIZE = (12, 16)


def random_chain(n: int, heads: int, layout: TokenLayout) -> tr.AttentionChain:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(heads, n, n, generator=generator, dtype=torch.float64)
    return tr.AttentionChain(logits.softmax(-1), layout)


@pytest.fixture(scope="module")
def vit_chain() -> tr.AttentionChain:
    return random_chain(15, 2, TokenLayout.image(*GRID, registers=2))


@pytest.fixture(scope="module")
def joint_chain() -> tr.AttentionChain:
    tokens = ("a", "▁black", "cat", "</s>") + ("",) * 12
    return random_chain(16, 2, TokenLayout({"text": 4, "image": 12}, {"image": GRID}, tokens))


@pytest.fixture(scope="module")
def picture() -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))


def seen(chain: tr.AttentionChain) -> tr.Observation:
    """A chain of a black picture of SIZE."""
    return tr.observe(chain, image=np.zeros((*SIZE, 3), np.uint8))


def walked(matrix: torch.Tensor, start: torch.Tensor, n: int) -> torch.Tensor:
    """vᵀAⁿ by loops."""
    v = start.double().tolist()
    for _ in range(n):
        v = [sum(v[i] * float(matrix[i, j]) for i in range(len(v))) for j in range(len(v))]
    return torch.tensor(v, dtype=torch.float64)


def upsampled(values: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.interpolate(values.reshape(1, 1, *GRID), SIZE, mode="bilinear")[0, 0].numpy()


def test_a_point_walks_on_the_patches_alone(vit_chain: tr.AttentionChain):
    weights = vit_chain.to_dense()[:, 3:, 3:]
    mean = (weights / weights.sum(-1, keepdim=True)).mean(0)
    values = upsampled(walked(mean, torch.eye(12)[7], 2))
    found = segment(seen(vit_chain), tr.at(0.9, 0.4), n=2, heads="uniform")
    assert np.abs(found.scores[0] - values).max() < 1e-7
    assert (found.mask() == (values > values.mean())).all()
    assert found.names == ("background", "object")
    assert (segment(seen(vit_chain), 7, heads="uniform").labels == found.labels).all()


def test_lambda2_weighs_the_heads_of_the_chain_that_is_walked(vit_chain: tr.AttentionChain):
    weights = vit_chain.to_dense()[:, 3:, 3:]
    weights = weights / weights.sum(-1, keepdim=True)
    slow = torch.tensor([sorted(abs(np.linalg.eigvals(w.numpy())))[-2] for w in weights], dtype=torch.float64)
    mixed = (weights * (slow / slow.sum())[:, None, None]).sum(0)
    found = segment(seen(vit_chain), 0, n=1)
    assert np.abs(found.scores[0] - upsampled(mixed[0])).max() < 1e-7


def test_cls_walks_through_all_tokens_and_the_picture_part_is_normalised(vit_chain: tr.AttentionChain):
    matrix = vit_chain.to_dense()[1]
    values = walked(matrix, torch.eye(15)[0], 3)[3:]
    found = segment(seen(vit_chain), "cls", n=3, heads=1)
    assert np.abs(found.scores[0] - upsampled(values / values.sum())).max() < 1e-7
    assert found.names == ("background", "cls")


def test_words_walk_backward_from_their_column(joint_chain: tr.AttentionChain):
    matrix = joint_chain.to_dense().mean(0)
    backward = matrix.T / matrix.sum(0)[:, None]
    start = torch.zeros(16)
    start[1] = start[2] = 0.5
    values = walked(backward, start, 2)[4:]
    found = segment(seen(joint_chain), text="black cat", heads="uniform")
    assert np.abs(found.scores[0] - upsampled(values / values.sum())).max() < 1e-7
    forward = segment(seen(joint_chain), text="black cat", heads="uniform", direction="forward")
    ahead = walked(matrix, start, 2)[4:]
    assert np.abs(forward.scores[0] - upsampled(ahead / ahead.sum())).max() < 1e-7


def test_several_words_give_a_label_each(joint_chain: tr.AttentionChain):
    found = segment(seen(joint_chain), text=["black", "cat"], rule=None)
    assert found.names == ("background", "black", "cat")
    assert (found.labels == found.scores.argmax(0) + 1).all()


def test_several_starts_compete_where_their_masks_hold():
    scores = [np.array([[4.0, 2.0, 1.0]]), np.array([[3.0, 3.0, 0.5]])]
    masks = [np.array([[False, True, False]]), np.array([[True, True, False]])]
    assert combined(scores, masks).tolist() == [[2, 2, 0]]


def test_rules_on_a_worked_example():
    values = np.array([[5.0, 3.0], [1.5, 0.5]])
    assert foreground(values, "mean", axes=2).tolist() == [[True, True], [False, False]]
    assert foreground(values, 0.5, axes=2).tolist() == [[True, False], [False, False]]
    assert foreground(values, 0.51, axes=2).tolist() == [[True, True], [False, False]]
    assert foreground(values, 0.95, axes=2).tolist() == [[True, True], [True, False]]
    assert foreground(values, 1.0, axes=2).all()
    assert foreground(values, None, axes=2).all()
    for rule in (0, 1.2, True, "median"):
        with pytest.raises(InputError, match="rule"):
            foreground(values, rule, axes=2)


@pytest.mark.parametrize("value", [0.0, 1 / 12, 3e8])
@pytest.mark.parametrize("rule", ["mean", 0.6, 1.0])
def test_nothing_stands_out_of_a_constant_map(value: float, rule: str | float):
    values = np.full((8, 8), value) * (1 + 1e-12 * np.random.default_rng(0).standard_normal((8, 8)))
    assert not foreground(values, rule, axes=2).any()
    assert foreground(values, None, axes=2).all()


def test_the_part_at_a_cell_or_at_the_largest_value():
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 1]], bool)
    values = np.array([[1, 1, 9, 2], [0, 0, 0, 3]])
    assert part_at(mask, values, (0, 1)).tolist() == [[True, True, False, False], [False] * 4]
    for cell in (None, (0, 2)):
        assert part_at(mask, values, cell).tolist() == [[False, False, False, True]] * 2
    assert not part_at(np.zeros((2, 4), bool), values, (0, 0)).any()


def test_box_shares_are_areas_pixel_by_pixel():
    box = (3, 2, 9, 10)
    expected = torch.zeros(GRID, dtype=torch.float64)
    for y in range(box[1], box[3]):
        for x in range(box[0], box[2]):
            expected[y * GRID[0] // SIZE[0], x * GRID[1] // SIZE[1]] += 1
    expected = (expected / expected.sum()).flatten()
    assert torch.allclose(box_share(box, GRID, SIZE), expected, atol=1e-12)
    fractions = (3 / 16, 2 / 12, 9 / 16, 10 / 12)
    assert torch.allclose(box_share(fractions, GRID, SIZE), expected, atol=1e-12)
    inside = np.zeros(SIZE, bool)
    inside[2:10, 3:9] = True
    assert torch.allclose(mask_share(inside, GRID, SIZE), expected, atol=1e-12)


def test_the_whole_picture_as_a_box_is_the_uniform_start():
    assert torch.allclose(box_share((0.0, 0.0, 1.0, 1.0), GRID, SIZE), torch.full((12,), 1 / 12).double())
    assert torch.allclose(box_share((0, 0, 16, 12), GRID, SIZE), torch.full((12,), 1 / 12).double())


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 5), (5, 0, 2, 5), (0, 0, 17, 5), (0.0, 0.0, 1.2, 1.0), (-1, 0, 2, 2), (1, 2)]
)
def test_boxes_outside_or_empty_are_refused(box):
    with pytest.raises(InputError, match="box"):
        box_share(box, GRID, SIZE)


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="empty"):
        mask_share(np.zeros(SIZE, bool), GRID, SIZE)
    with pytest.raises(InputError, match="expected bool"):
        mask_share(np.ones(SIZE), GRID, SIZE)
    with pytest.raises(InputError, match="expected bool"):
        mask_share(np.ones((3, 3), bool), GRID, SIZE)


def test_no_bounce_gives_the_start_itself(vit_chain: tr.AttentionChain):
    chain = vit_chain.restrict("image")[0]
    found = start_map(chain, (4, 4, 8, 8), 0, "forward", SIZE)
    assert found.values.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


def test_component_keeps_what_hangs_together_with_the_largest_value(vit_chain: tr.AttentionChain):
    scipy = pytest.importorskip("scipy.ndimage")
    several = 0
    for start in range(12):
        whole = segment(seen(vit_chain), start, n=1)
        part = segment(seen(vit_chain), start, n=1, component=True).mask()
        parts, count = scipy.label(whole.mask())
        several += count > 1
        assert (part == (parts == parts[np.unravel_index(whole.scores[0].argmax(), SIZE)])).all()
    assert several


def test_component_of_a_point_holds_the_point():
    blocks = torch.zeros(12, 12, dtype=torch.float64)
    near, far = [0, 1, 4, 5], [11]
    blocks[:, near], blocks[:, far] = 0.1, 0.6  # the largest value is apart from the point
    chain = tr.AttentionChain(blocks, TokenLayout({"image": 12}, {"image": GRID}))
    assert segment(seen(chain), tr.at(0.1, 0.1), rule=0.99).mask()[10, 14]
    found = segment(seen(chain), tr.at(0.1, 0.1), rule=0.99, component=True).mask()
    assert found[1, 1]
    assert not found[10, 14]


def test_the_half_life_is_the_number_it_finds(vit_chain: tr.AttentionChain):
    mixed = vit_chain.restrict("image").aggregate("uniform")
    steps = int(mixed.half_life(3).values)
    by_rule = segment(seen(vit_chain), 3, n="halflife", heads="uniform")
    assert np.allclose(by_rule.scores, segment(seen(vit_chain), 3, n=steps, heads="uniform").scores)


@pytest.mark.parametrize("start", [None, "cls", (4, 4, 20, 30), (0.1, 0.1, 0.5, 0.5), [0, "registers"], {"x": 3}])
def test_the_bundled_model_cuts_at_the_size_of_the_picture(picture: PIL.Image.Image, start):
    found = segment(picture, start, size=32)
    assert found.size == (40, 56)
    count = len(start) if isinstance(start, list | dict) else 1
    assert len(found.names) == count + 1
    assert found.labels.max() <= count
    assert found.labels.any()


def test_model_observation_trace_and_chain_agree(picture: PIL.Image.Image):
    model = tr.load("bundled")
    inputs = model.prepare(picture, 32)
    with tr.capture(model) as trace:
        model.forward(inputs)
    by_model = segment(picture, 2, model=model, size=32, layer=3)
    by_trace = segment(trace, 2, image=picture, layer=3)
    by_chain = segment(trace[3], 2, image=picture)
    by_module = segment(model.module, 2, inputs=inputs, image=picture, layer=3)
    by_observation = segment(tr.observe(picture, model, size=32), 2, layer=3)
    for other in (by_trace, by_chain, by_module, by_observation):
        assert np.abs(other.scores - by_model.scores).max() < 1e-6
    with pytest.raises(InputError, match="size = 32 beside a trace"):
        segment(trace, 2, size=32)
    with pytest.raises(NotFoundError, match="no layer 99"):
        segment(trace, 2, layer=99)


def test_one_forward_serves_all_tasks(picture: PIL.Image.Image):
    model, forwards = tr.load("bundled"), []
    handle = model.module.register_forward_hook(lambda *_: forwards.append(1))
    observation = tr.observe(picture, model, size=48)
    assert segment(observation, tr.at(0.4, 0.6)).labels.any()
    assert tr.tasks.saliency(observation).labels.any()
    assert tr.tasks.cluster(observation, k=6).labels.all()
    tr.baselines.tokencut(observation, layer=2, centre=True)
    handle.remove()
    assert len(forwards) == 3  # one of the picture, one more for its values, one of its mean colour


def test_starts_are_remembered_as_places_of_the_picture():
    mask = np.zeros((64, 96), bool)
    mask[10:20, 30:50] = True
    at_mask = mark_of(torch.from_numpy(mask), (4, 6), (64, 96))
    assert isinstance(at_mask, np.ndarray)
    assert (at_mask == mask).all()
    assert mark_of(tr.at(0.2, 0.3), (4, 6), (64, 96)) == tr.at(0.2, 0.3)
    assert mark_of(8, (4, 6), (64, 96)) == pytest.approx((2 / 6, 1 / 4, 3 / 6, 2 / 4))
    assert mark_of((0, 16, 48, 64), (4, 6), (64, 96)) == (0, 0.25, 0.5, 1)
    assert mark_of("cls", (4, 6), (64, 96)) is None


def test_segment_tells_its_starts(vit_chain: tr.AttentionChain):
    found = segment(seen(vit_chain), [tr.at(0.5, 0.5), 0, (0, 0, 8, 12), "cls"])
    assert found.starts == (tr.at(0.5, 0.5), (0, 0, 1 / 4, 1 / 3), (0, 0, 0.5, 1), None)


def test_without_a_picture_the_models_input_or_the_grid_gives_the_size(picture: PIL.Image.Image, vit_chain):
    model = tr.load("bundled")
    inputs = model.prepare(picture, 32)
    by_input = segment(model, inputs=inputs)
    assert by_input.size == tuple(inputs["pixel_values"].shape[-2:])
    assert by_input.picture is None
    found = segment(vit_chain, (1, 0, 3, 2), n=0, rule=None)
    assert found.size == GRID
    assert found.scores[0].nonzero()[0].tolist() == [0, 0, 1, 1]


def test_the_picture_and_the_choice_are_remembered(picture: PIL.Image.Image):
    found = segment(picture, [0, "cls"], size=32, layer=2, heads=[0, 1], n=3, rule=0.5)
    assert found.picture.size == (56, 40)
    where = "bundled, layer 2 of 0–11 (model.layer.2.attention), heads [0, 1], tokens"
    assert found.caption == f"{where} image (all from cls), n = 3, forward, rule 0.5"
    alone = segment(picture, "cls", size=32, layer=2, heads=[0, 1])
    assert alone.caption == f"{where} all, n = 2, forward, rule mean"


def test_refined_maps_follow_the_edges_of_the_picture():
    pytest.importorskip("kornia")
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, 28:] = 255  # an edge that no boundary of a patch meets
    blocks = torch.full((12, 12), 0.01, dtype=torch.float64)
    blocks[:, [0, 1, 4, 5, 8, 9]] = 0.15
    blocks /= blocks.sum(-1, keepdim=True)
    chain = tr.AttentionChain(blocks, TokenLayout({"image": 12}, {"image": GRID}))
    truth = np.zeros((48, 64), bool)
    truth[:, :28] = True
    plain = segment(chain, 0, image=picture).mask()
    refined = segment(chain, 0, image=picture, refine="guided").mask()
    assert (refined != truth).sum() < (plain != truth).sum()


def test_what_cannot_be_is_refused(vit_chain: tr.AttentionChain, joint_chain: tr.AttentionChain):
    with pytest.raises(NotFoundError, match="sign"):
        segment(seen(vit_chain), "sign")
    with pytest.raises(NotFoundError, match="dog"):
        segment(seen(joint_chain), text="dog")
    with pytest.raises(InputError, match="one of them"):
        segment(seen(joint_chain), 3, text="cat")
    with pytest.raises(InputError, match="only its size"):
        segment(vit_chain, 3, refine="guided")
    with pytest.raises(InputError, match="refine"):
        segment(seen(vit_chain), 3, refine="crf")
    with pytest.raises(InputError, match="heads"):
        segment(seen(vit_chain), 3, heads="best")
    with pytest.raises(InputError, match="no start"):
        segment(seen(vit_chain), [])
    with pytest.raises(InputError, match="start True"):
        segment(seen(vit_chain), True)
    with pytest.raises(CaptureError, match="indexing the chain"):
        segment(tr.AttentionChain(torch.full((2, 1, 12, 12), 1 / 12), TokenLayout.image(3, 4, 0)), 3)
    with pytest.raises(LayoutError, match="layout"):
        segment(tr.AttentionChain(torch.eye(4)), 0)
    with pytest.raises(LayoutError, match="no picture is known among the 4 tokens; give one"):
        segment(tr.AttentionChain(torch.eye(4), TokenLayout.text(["a", "b", "c", "d"])), 0)
    with pytest.raises(LayoutError, match="video"):
        segment(tr.AttentionChain(torch.eye(8), TokenLayout.video(2, 2, 2)), 0)
