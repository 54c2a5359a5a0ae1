"""Modules as people write them: pictures, texts, sounds, with softmax attention and without, well-behaved and not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tokenrank as tr

WIDTH, HEADS, PATCH, ROWS, COLUMNS = 16, 2, 8, 4, 5
CLASSES = 3


class Attention(nn.Module):
    """Softmax attention by hand, through SDPA, or linear attention, which has no rows that sum to one."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.qkv, self.out = how, nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        if self.how == "sdpa":
            seen = F.scaled_dot_product_attention(q, k, v)
        elif self.how == "linear":  # Katharopoulos et al. (2020): φ(q) (φ(k)ᵀ v), no softmax
            q, k = F.elu(q) + 1, F.elu(k) + 1
            seen = q @ (k.mT @ v) / (q @ k.sum(-2)[..., None])
        elif self.how == "einsum":
            weights = torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1)
            seen = torch.einsum("bhij,bhjd->bhid", weights, v)
        else:
            seen = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        return self.out(seen.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.norm, self.attention, self.mlp = nn.LayerNorm(WIDTH), Attention(how), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x).relu()


class Pictures(nn.Module):
    """Patches by convolution or by hand, blocks, a head of one's own."""

    def __init__(self, how: str = "sdpa", cls: bool = False, embed: str = "conv", answer: str = "tensor") -> None:
        super().__init__()
        self.embed, self.answer = embed, answer
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH) if embed == "conv" else nn.Linear(3 * PATCH**2, WIDTH)
        self.cls = nn.Parameter(torch.randn(1, 1, WIDTH)) if cls else None
        self.blocks = nn.ModuleList([Block(how) for _ in range(2)])
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Any:
        if self.embed == "conv":
            tokens = self.patches(x).flatten(2).mT
        else:
            tokens = self.patches(F.unfold(x, PATCH, stride=PATCH).mT)
        if self.cls is not None:
            tokens = torch.cat([self.cls.expand(len(x), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        logits = self.head(tokens.mean(1) if self.cls is None else tokens[:, 0])
        answers = {"tensor": logits, "dict": {"scores": logits}, "list": [logits, tokens], "nothing": None}
        return answers[self.answer]


class Texts(nn.Module):
    """Token numbers, or vectors that somebody else embedded."""

    def __init__(self, how: str = "sdpa", pad: bool = False) -> None:
        super().__init__()
        self.words, self.block, self.head = nn.Embedding(50, WIDTH), Block(how), nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        tokens = self.words(ids) if ids.dtype == torch.long else ids
        return self.head(self.block(tokens).mean(1))


class Convolutions(nn.Module):
    """No attention at all."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Torch(nn.Module):
    """PyTorch's own encoder over a picture's patches, which takes a fused path of its own in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.patches(x).flatten(2).mT).mean(1))


class Pooling(nn.Module):
    """One query looks at the patches: no square attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.query = nn.Conv2d(3, WIDTH, PATCH, PATCH), nn.Parameter(torch.randn(1, 1, WIDTH))
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        return self.attention(self.query.expand(len(x), -1, -1), tokens, tokens)[0][:, 0]


class Shrinking(nn.Module):
    """Fewer patches in the second layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.first, self.second = nn.Conv2d(3, WIDTH, PATCH, PATCH), Block("sdpa"), Block("sdpa")
        self.merge, self.head = nn.Conv2d(WIDTH, WIDTH, 2, 2), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        map_ = self.patches(x)
        map_ = self.first(map_.flatten(2).mT).mT.unflatten(2, map_.shape[-2:])
        return self.head(self.second(self.merge(map_).flatten(2).mT).mean(1))


class Branches(nn.Module):
    """Text and picture in one sequence, given by name."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.patches = nn.Embedding(50, WIDTH), nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.block, self.head = Block("sdpa"), nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: Tensor, pixels: Tensor) -> dict[str, Tensor]:
        tokens = torch.cat([self.words(ids), self.patches(pixels).flatten(2).mT], 1)
        return {"logits": self.head(self.block(tokens)[:, -1])}


class Anonymous(nn.Module):
    """Arguments without names."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Pictures()

    def forward(self, *pictures: Tensor) -> Tensor:
        return self.inner(pictures[0])


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such thing")


@dataclass(frozen=True)
class Own:
    """A module, what it is given, and what is said beside it."""

    build: Callable[[], nn.Module]
    inputs: Any
    reading: Mapping[str, Any] = field(default_factory=dict)
    head: Callable[[Any], Tensor] | None = None

    def made(self) -> nn.Module | tr.Model:
        torch.manual_seed(0)
        module = self.build().eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape))
        return module if self.head is None else tr.Model("mine", module, "image", head=self.head)


def torchvision_vit(**changes: Any) -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    sizes = {"num_layers": 2, "num_heads": HEADS, "hidden_dim": WIDTH, "mlp_dim": 32, "num_classes": CLASSES}
    return VisionTransformer(32, PATCH, **{**sizes, **changes})


def torchvision_swin() -> nn.Module:
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([4, 4], WIDTH, [2, 2], [2, 2], [2, 2], num_classes=CLASSES)


def transformers_vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    sizes: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": HEADS}
    return ViTForImageClassification(ViTConfig(**sizes, intermediate_size=32, image_size=32, patch_size=PATCH))


def transformers_bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    sizes: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": HEADS}
    return BertModel(BertConfig(**sizes, intermediate_size=32, vocab_size=50))


def timm_without_class_token() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=32, patch_size=PATCH, embed_dim=WIDTH, depth=2, num_heads=HEADS, num_classes=CLASSES,
        class_token=False, global_pool="avg",
    )  # fmt: skip


_generator = torch.Generator().manual_seed(1)
PICTURE = torch.randn(1, 3, ROWS * PATCH, COLUMNS * PATCH, generator=_generator)
SQUARE = torch.randn(1, 3, 32, 32, generator=_generator)
IDS = torch.tensor([[3, 1, 4, 1, 5, 9]])


def _tensor(output: Tensor) -> Tensor:
    return output


OWN: dict[str, Own] = {
    "torchvision, another head": Own(torchvision_vit, SQUARE),
    "torchvision, its head said": Own(torchvision_vit, SQUARE, head=_tensor),
    "torchvision, a batch of two": Own(torchvision_vit, SQUARE.expand(2, -1, -1, -1)),
    "torchvision, no CLS": Own(timm_without_class_token, SQUARE),
    "torchvision Swin": Own(torchvision_swin, torch.randn(1, 3, 64, 64, generator=_generator)),
    "transformers ViT": Own(transformers_vit, {"pixel_values": SQUARE}),
    "by hand, no CLS": Own(lambda: Pictures("hand"), PICTURE),
    "by hand, its head said": Own(lambda: Pictures("hand", cls=True), PICTURE, head=_tensor),
    "einsum, CLS": Own(lambda: Pictures("einsum", cls=True), PICTURE),
    "linear attention": Own(lambda: Pictures("linear"), PICTURE),
    "linear attention, its head said": Own(lambda: Pictures("linear"), PICTURE, head=_tensor),
    "patches cut by hand": Own(lambda: Pictures("hand", embed="hand"), PICTURE),
    "patches cut by hand, layout said": Own(
        lambda: Pictures("hand", embed="hand"),
        PICTURE,
        {"layout": tr.TokenLayout.image(ROWS, COLUMNS, cls_tokens=0)},
        head=_tensor,
    ),
    "a wrong layout": Own(lambda: Pictures("hand"), PICTURE, {"layout": tr.TokenLayout.image(3, 3)}),
    "layout refused": Own(lambda: Pictures("hand"), PICTURE, {"layout": False}),
    "answers in a dict": Own(lambda: Pictures(answer="dict"), PICTURE, head=lambda output: output["scores"]),
    "a head that does not fit": Own(lambda: Pictures(answer="dict"), PICTURE, head=lambda output: output.logits),
    "a head that returns a list": Own(lambda: Pictures(answer="list"), PICTURE, head=lambda output: output),
    "answers in a list": Own(lambda: Pictures(answer="list"), PICTURE),
    "answers nothing": Own(lambda: Pictures(answer="nothing"), PICTURE),
    "answers nothing, its head said": Own(lambda: Pictures(answer="nothing"), PICTURE, head=_tensor),
    "a text": Own(Texts, IDS),
    "a text by hand, by name": Own(lambda: Texts("hand"), {"ids": IDS}),
    "a text of vectors": Own(Texts, torch.randn(1, 6, WIDTH, generator=_generator)),
    "a text of one token": Own(Texts, IDS[:, :1]),
    "a text, linear": Own(lambda: Texts("linear"), IDS),
    "transformers BERT": Own(transformers_bert, {"input_ids": IDS}),
    "transformers BERT, padded": Own(
        transformers_bert, {"input_ids": IDS, "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]])}
    ),
    "no attention": Own(Convolutions, PICTURE),
    "no attention, its head said": Own(Convolutions, PICTURE, head=_tensor),
    "nothing at all": Own(nn.Identity, PICTURE),
    "one linear layer": Own(lambda: nn.Linear(4, 4), torch.zeros(1, 4)),
    "torch's own encoder": Own(Torch, PICTURE),
    "torch's own encoder alone": Own(
        lambda: nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True), torch.randn(1, 6, WIDTH)
    ),
    "one query": Own(Pooling, PICTURE),
    "patches that shrink": Own(Shrinking, PICTURE, head=_tensor),
    "text and picture": Own(Branches, {"ids": IDS, "pixels": PICTURE}, head=lambda output: output["logits"]),
    "text and picture, by place": Own(Branches, (IDS, PICTURE)),
    "one patch": Own(Pictures, PICTURE[..., :PATCH, :PATCH], head=_tensor),
    "two patches": Own(Pictures, PICTURE[..., :PATCH, : 2 * PATCH], head=_tensor),
    "no picture, four numbers": Own(Pictures, torch.zeros(4)),
    "a picture of the wrong channels": Own(Pictures, torch.zeros(1, 4, 32, 32)),
    "a picture of NaN": Own(Pictures, torch.full((1, 3, 32, 32), float("nan")), head=_tensor),
    "whole numbers for a picture": Own(Pictures, torch.zeros(1, 3, 32, 32, dtype=torch.uint8)),
    "too many inputs": Own(Pictures, [PICTURE, PICTURE]),
    "inputs by another name": Own(Pictures, {"pixel_values": PICTURE}),
    "an empty batch": Own(Pictures, PICTURE[:0]),
    "arguments without names": Own(Anonymous, PICTURE),
    "inputs that are text": Own(Pictures, "a cat"),
    "inputs that are a number": Own(Pictures, 3),
    "a forward that fails": Own(Broken, PICTURE),
    "no inputs": Own(Pictures, None),
}
