from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tokenrank as tr
from tokenrank.chain.token_map import TokenMap
from tokenrank.errors import CaptureError, InputError
from tokenrank.layout import TokenLayout
from tokenrank.models import Model
from tokenrank.models.model import own_logits
from tokenrank.models.preprocess import ImageSettings
from tokenrank.tasks.mask_tokens import mask_pixels, mask_tokens, removal_order, removed_count

SIDE, PATCH, CLASSES = 32, 8, 5
PATCHES = (SIDE // PATCH) ** 2
SETTINGS = ImageSettings(SIDE, (PATCH, PATCH), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), (SIDE, SIDE))
SIZES = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "image_size": SIDE, "patch_size": PATCH}


def classifier(kind: str, layers: int = 2, **changes) -> Model:
    """A tiny classifier with random weights, of the real class."""
    torch.manual_seed(5)
    if kind.startswith("timm:"):
        timm = pytest.importorskip("timm")
        name = kind.removeprefix("timm:")
        options = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": 32, "depth": layers, "num_heads": 2}
        module = timm.create_model(name, num_classes=CLASSES, **{**options, **changes})
    else:
        import transformers

        classes = {"vit": "ViT", "dinov2": "Dinov2", "registers": "Dinov2WithRegisters", "beit": "Beit"}
        extra = {"hidden_act": "gelu"}
        if kind in ("dinov2", "registers"):
            extra = {"mlp_ratio": 2, "layerscale_value": 1.0}
        config = getattr(transformers, classes[kind] + "Config")(
            num_hidden_layers=layers, num_labels=CLASSES, initializer_range=0.3, **{**SIZES, **extra, **changes}
        )
        module = getattr(transformers, classes[kind] + "ForImageClassification")(config)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1 or "pos" in name:
            torch.nn.init.normal_(parameter, std=0.25)
        elif "gamma" in name:  # scales of branches, which begin near zero
            torch.nn.init.ones_(parameter)
    return Model(kind, module.float().eval(), "image", SETTINGS, head=own_logits)


def batch(model: Model, count: int = 2, side: int = SIDE) -> dict[str, Tensor]:
    parameters = inspect.signature(model.module.forward).parameters
    name = "pixel_values" if "pixel_values" in parameters else next(iter(parameters))
    return {name: torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(2))}


def orders(count: int = 2, patches: int = PATCHES) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.stack([torch.randperm(patches, generator=generator) for _ in range(count)])


def cls_state(output) -> Tensor:
    return output.last_hidden_state[:, 0]


KINDS = ["vit", "dinov2", "registers", "timm:vit_tiny_patch16_224", "timm:vit_small_patch16_dinov3"]


@pytest.fixture(scope="module")
def bundled() -> Model:
    return tr.load("bundled")


@pytest.mark.parametrize("how", ["keys", "remove", "pixels"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_removed_is_the_model_itself(kind: str, how: str):
    model = classifier(kind)
    inputs = batch(model)
    with torch.no_grad():
        clean = model.logits(inputs)
    assert torch.equal(mask_tokens(model, orders(), 0.0, how, inputs=inputs), clean)
    # patches enter at their own place, so that the first of several ratios runs apart, too
    several = mask_tokens(model, orders(), [0.0, 0.5], how, inputs=inputs)
    assert torch.equal(several[0], clean)
    assert (several[1] - clean).abs().max() > 1e-3


@pytest.mark.parametrize("how", ["keys", "remove", "pixels"])
@pytest.mark.parametrize("kind", ["vit", "registers", "timm:vit_small_patch16_dinov3"])
def test_batches_of_ratios_and_pictures_are_single_runs(kind: str, how: str):
    model = classifier(kind)
    inputs = batch(model)
    (name,) = inputs
    ratios = [0.25, 0.0, 0.9, 0.5]
    together = mask_tokens(model, orders(), ratios, how, batch=3, inputs=inputs)
    assert together.shape == (4, 2, CLASSES)
    for i, ratio in enumerate(ratios):
        for picture in range(2):
            alone = mask_tokens(
                model, orders()[picture], ratio, how, inputs={name: inputs[name][picture : picture + 1]}
            )
            assert torch.allclose(together[i, picture], alone[0], atol=2e-5)


def one_layer_by_hand(model: Model, pixels: Tensor, gone: list[int]) -> Tensor:
    """Logits of a ViT of one layer in float64, head by head and token by token."""
    vit = model.module.double()
    x = vit.vit.embeddings(pixels.double())[0]
    layer = vit.vit.layers[0]
    weights = dict(layer.named_parameters())

    def linear(part: str, v: Tensor) -> Tensor:
        (name,) = (n.removesuffix(".weight") for n in weights if n.endswith(f"{part}.weight"))
        return v @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    normed = layer.layernorm_before(x)
    q, k, v = (linear(part, normed) for part in ("q_proj", "k_proj", "v_proj"))
    seen = [j for j in range(len(x)) if j - 1 not in gone]
    mixed = torch.zeros_like(x)
    for head in range(2):
        cols = slice(16 * head, 16 * head + 16)
        for i in range(len(x)):
            powers = torch.tensor([float(torch.exp(q[i, cols] @ k[j, cols] / 4)) for j in seen], dtype=torch.float64)
            for weight, j in zip(powers / powers.sum(), seen, strict=True):
                mixed[i, cols] += weight * v[j, cols]
    x = x + linear("o_proj", mixed)
    h = layer.layernorm_after(x)
    x = x + linear("fc2", F.gelu(linear("fc1", h)))
    out = vit.classifier(vit.vit.layernorm(x)[0])
    model.module.float()
    return out


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
def test_masked_keys_of_one_layer_are_a_hand_computation(attention: str):
    model = classifier("vit", layers=1)
    model.module.set_attn_implementation(attention)
    inputs = batch(model, 1)
    gone = orders()[0][: PATCHES // 2].tolist()
    with torch.no_grad():
        expected = one_layer_by_hand(model, inputs["pixel_values"], gone)
    assert torch.allclose(mask_tokens(model, gone, 0.5, "keys", inputs=inputs)[0].double(), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "registers", "timm:vit_tiny_patch16_224"])
def test_masked_keys_get_no_attention_in_any_layer(kind: str):
    model = classifier(kind)
    inputs = batch(model, 1)
    gone = orders()[0][:6]
    values: list[Tensor] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            bound = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | (kwargs or {})
            if func is F.scaled_dot_product_attention and bound.get("attn_mask") is not None:
                scores = bound["query"] @ bound["key"].mT
                values.append(scores.masked_fill(~bound["attn_mask"], -torch.inf).softmax(-1))
            return func(*args, **(kwargs or {}))

    with Watch():
        mask_tokens(model, gone, 6 / PATCHES, "keys", inputs=inputs)
    weights = [v for v in values if v.shape[-1] > PATCHES]
    assert len(weights) == 2
    extra = weights[0].shape[-1] - PATCHES
    for layer in weights:
        assert (layer[..., gone + extra] == 0).all()
        assert (layer[..., 0, :] > 0).sum() == layer.shape[1] * (extra + PATCHES - 6)


@pytest.mark.parametrize("kind", ["vit", "registers", "timm:vit_tiny_patch16_224", "timm:vit_small_patch16_dinov3"])
def test_cls_cannot_tell_masked_keys_from_removed_tokens(kind: str):
    # nobody sees a masked token, so what is left answers the same; heads that average patches would differ
    model = classifier(kind, **({"global_pool": "token"} if kind.startswith("timm:") else {}))
    inputs = batch(model)
    read = None if kind != "registers" else (lambda out: out.hidden_states[-1][:, 0])
    if kind == "registers":
        inputs["output_hidden_states"] = True
    answers = [mask_tokens(model, orders(), [0.3, 0.8], how, read=read, inputs=inputs) for how in ("keys", "remove")]
    assert torch.allclose(*answers, atol=1e-4)


def test_removed_tokens_are_the_encoder_on_the_shorter_sequence():
    model = classifier("vit")
    inputs = batch(model, 1)
    gone = orders()[0][:7]
    vit = model.module.vit
    with torch.no_grad():
        x = vit.embeddings(inputs["pixel_values"])
        x = x[:, [0] + [i + 1 for i in range(PATCHES) if i not in gone.tolist()]]
        for layer in vit.layers:
            x = layer(x, None)
        expected = model.module.classifier(vit.layernorm(x)[:, 0])
    assert torch.allclose(mask_tokens(model, gone, 7 / PATCHES, "remove", inputs=inputs), expected, atol=1e-5)


def test_removed_tokens_of_the_bundled_model_keep_their_rotary_positions(bundled: Model):
    inputs = batch(bundled, 1, 64)
    order = orders(1, 64)[0]
    kept = [i for i in range(64) if i not in order[:40].tolist()]
    net = bundled.module
    with torch.no_grad():
        x = net.embeddings(inputs["pixel_values"])[:, [*range(5), *(5 + i for i in kept)]]
        cos, sin = (part[kept] for part in net.rope_embeddings(inputs["pixel_values"]))
        for layer in net.model.layer:
            x = layer(x, position_embeddings=(cos, sin))
        state = net.norm(x)
        counted = net.embeddings(inputs["pixel_values"])[:, [*range(5), *(5 + i for i in kept)]]
        cos, sin = (part[: len(kept)] for part in net.rope_embeddings(inputs["pixel_values"]))
        for layer in net.model.layer:
            counted = layer(counted, position_embeddings=(cos, sin))
    found = mask_tokens(bundled, order, 40 / 64, "remove", read=lambda out: out.last_hidden_state, inputs=inputs)
    assert torch.allclose(found, state, atol=1e-4)
    assert not torch.allclose(found, net.norm(counted), atol=1e-2)


def test_a_picture_is_prepared_at_the_size_of_the_model(bundled: Model):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    inputs = bundled.prepare(picture)
    order = orders(1, inputs["pixel_values"].shape[-1] ** 2 // 64)[0]
    assert torch.equal(mask_tokens(picture, order, 0.5, model=bundled), mask_tokens(bundled, order, 0.5, inputs=inputs))


def test_an_observation_runs_again_and_what_was_captured_before_does_not(bundled: Model):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    observation = tr.observe(picture, bundled, size=64, layers="*.3.*")
    order = removal_order(torch.arange(64.0))
    expected = mask_tokens(bundled, order, [0.2, 0.7], inputs=bundled.prepare(picture, 64))
    assert torch.equal(mask_tokens(observation, order, [0.2, 0.7]), expected)
    assert mask_pixels(observation, torch.rand(64, 64), 0.4).shape == (1, 200)
    with pytest.raises(InputError, match=r"this trace was captured before; observe the source with its model"):
        mask_tokens(observation.trace, order, 0.2)


@pytest.mark.parametrize("how", ["keys", "remove", "pixels"])
def test_the_bundled_model_answers_without_its_patches(bundled: Model, how: str):
    inputs = batch(bundled, 2, 64)
    logits = mask_tokens(bundled, orders(2, 64), [0, 0.5, 1], how, inputs=inputs)
    assert logits.shape == (3, 2, 200)
    assert torch.isfinite(logits).all()
    if how != "pixels":  # without patches all pictures are one
        assert torch.allclose(logits[2, 0], logits[2, 1], atol=1e-4)


def test_pixels_are_black_before_normalisation_in_whole_patches(bundled: Model):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    order = orders(1, 64)[0]
    painted = picture.copy()
    for patch in order[:20].tolist():
        row, column = divmod(patch, 8)
        painted[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 0
    with torch.no_grad():
        expected = bundled.logits(bundled.prepare(painted, 64))
    assert torch.allclose(
        mask_tokens(bundled, order, 20 / 64, "pixels", inputs=bundled.prepare(picture, 64)), expected, atol=1e-4
    )


def test_single_pixels_are_black_by_their_scores(bundled: Model):
    picture = np.random.default_rng(0).integers(1, 256, (64, 64, 3), dtype=np.uint8)
    scores = torch.rand(64, 64, generator=torch.Generator().manual_seed(1))
    for least_first in (False, True):
        ranked = scores.flatten().argsort(descending=not least_first)
        painted = picture.reshape(-1, 3).copy()
        painted[ranked[: int(0.3 * 4096)].numpy()] = 0
        with torch.no_grad():
            expected = bundled.logits(bundled.prepare(painted.reshape(64, 64, 3), 64))
        found = mask_pixels(bundled, scores, [0.0, 0.3], least_first=least_first, inputs=bundled.prepare(picture, 64))
        assert torch.allclose(found[1], expected, atol=1e-4)
        assert not torch.allclose(found[0], expected, atol=1e-2)


def test_a_map_of_patches_masks_pixels_bilinearly(bundled: Model):
    picture = bundled.prepare(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), 64)
    layout = TokenLayout({"image": 64}, {"image": (8, 8)})
    found = TokenMap(torch.rand(64, generator=torch.Generator().manual_seed(1)), layout)
    by_map = mask_pixels(bundled, found, 0.4, inputs=picture)
    assert torch.equal(by_map, mask_pixels(bundled, found.upsample((64, 64)), 0.4, inputs=picture))
    with pytest.raises(InputError, match=r"expected \(64, 64\)"):
        mask_pixels(bundled, torch.rand(8, 8), 0.4, inputs=picture)


@pytest.mark.parametrize("how", ["keys", "remove", "pixels"])
def test_nothing_stays_patched(how: str):
    model = classifier("vit")
    inputs = batch(model)
    before = [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in model.module.modules()]
    functions = F.scaled_dot_product_attention, F.softmax, torch.softmax
    with torch.no_grad():
        clean = model.logits(inputs)

    def broken(output) -> Tensor:
        raise ZeroDivisionError

    mask_tokens(model, orders(), 0.5, how, inputs=inputs)
    with pytest.raises(ZeroDivisionError):
        mask_tokens(model, orders(), 0.5, how, read=broken, inputs=inputs)
    assert [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in model.module.modules()] == before
    assert (F.scaled_dot_product_attention, F.softmax, torch.softmax) == functions
    with torch.no_grad():
        assert torch.equal(model.logits(inputs), clean)


def test_relative_biases_forbid_removal_and_allow_masking():
    model = classifier("beit", use_relative_position_bias=True)
    for block in model.module.modules():
        table = getattr(block, "relative_position_bias_table", None)
        if table is not None:
            torch.nn.init.normal_(table)
    inputs = batch(model)
    with pytest.raises(CaptureError, match=r"cannot be removed: shuffled tokens .* use how='keys'"):
        mask_tokens(model, orders(), 0.5, "remove", inputs=inputs)
    assert torch.isfinite(mask_tokens(model, orders(), 0.5, "keys", inputs=inputs)).all()


def test_windows_forbid_both():
    timm = pytest.importorskip("timm")
    module = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 2)
    )
    settings = ImageSettings(32, (4, 4), (0.5,) * 3, (0.5,) * 3, (32, 32), fixed=True)
    model = Model("swin", module.eval(), "image", settings, head=own_logits)
    inputs = batch(model)
    for how in ("keys", "remove"):
        with pytest.raises(CaptureError):
            mask_tokens(model, orders(2, 64), 0.5, how, inputs=inputs)


def test_orders_come_from_scores():
    assert removal_order(torch.tensor([0.1, 0.5, 0.1, 0.3])).tolist() == [1, 3, 0, 2]
    assert removal_order(np.array([0.1, 0.5, 0.1, 0.3]), least_first=True).tolist() == [0, 2, 3, 1]
    layout = TokenLayout.image(1, 3)
    assert removal_order(TokenMap(torch.tensor([9.0, 1.0, 3.0, 2.0]), layout)).tolist() == [1, 2, 0]
    with pytest.raises(InputError, match="finite"):
        removal_order(torch.tensor([0.0, float("nan")]))


@pytest.mark.parametrize(("ratio", "patches", "count"), [(0.29, 100, 29), (0.3, 10, 3), (0.05, 19, 0), (1, 7, 7)])
def test_ratios_round_down(ratio: float, patches: int, count: int):
    assert removed_count(ratio, patches) == count


@pytest.mark.parametrize(
    ("order", "ratio", "options", "message"),
    [
        ([0, 0, 1], 0.1, {}, "twice"),
        ([0, 16], 0.1, {}, "expected patches 0 to 15"),
        ([0, 1], 0.5, {}, "removes 8 of 16"),
        ([0.5, 1.0], 0.1, {}, "whole numbers"),
        (torch.zeros(3, 1, dtype=torch.long), 0.05, {}, "3 rows for a batch of 2"),
        ("first", 0.1, {}, "order is a str"),
        (list(range(16)), 1.5, {}, "ratio = 1.5"),
        (list(range(16)), [], {}, "no ratio"),
        (list(range(16)), 0.1, {"how": "erase"}, "how = 'erase'"),
        (list(range(16)), 0.1, {"batch": 0}, "batch = 0"),
    ],
)
def test_what_cannot_be_is_refused(order, ratio, options, message):
    model = classifier("vit")
    with pytest.raises(InputError, match=message):
        mask_tokens(model, order, ratio, inputs=batch(model), **options)


def test_models_without_classifier_need_something_to_read():
    model = classifier("vit")
    bare = Model("bare", model.module.vit, "image", SETTINGS)
    with pytest.raises(InputError, match="no classifier"):
        mask_tokens(bare, orders(), 0.5, inputs=batch(bare))
    assert mask_tokens(bare, orders(), 0.5, read=cls_state, inputs=batch(bare)).shape == (2, 32)


def test_a_sequence_of_patches_alone_keeps_one():
    model = classifier("timm:vit_tiny_patch16_224", class_token=False, global_pool="avg")
    inputs = batch(model)
    assert torch.isfinite(mask_tokens(model, orders(), 15 / 16, "remove", inputs=inputs)).all()
    for how in ("keys", "remove"):
        with pytest.raises(InputError, match="all 16 tokens would go"):
            mask_tokens(model, orders(), 1.0, how, inputs=inputs)
