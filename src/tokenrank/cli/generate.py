"""``tokenrank generate``."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .batch import Say, each
from .meaning import seeds_of, sides_of, strength_of, whole_of
from .options import OUT, OutOption, OverwriteOption, QuietOption, SeedsOption, completed
from .output import OutFolder, maker
from .report import MisuseError, note, print_path, reported
from .sources import Source, digest_of
from .text import stem_of

if TYPE_CHECKING:
    import PIL.Image

    from ..view.guided import Guided

KINDS = ("identity", "smooth", "shuffle")
MASKS = ("colsum", "tokenrank", "bounce", "all", "random")
MOST_SEEDS, MOST_STEPS = 1000, 10_000


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw, in quotes.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(metavar="MODEL", help="A pipeline of diffusers: its folder, or diffusers:OWNER/NAME on the hub."),
    ],
    guidance: Annotated[
        str,
        typer.Option(
            metavar="GUIDANCE",
            help="none; the mask of self-attention guidance (colsum, tokenrank, bounce, all, random, or word:dog); or "
            "what is done to attention (identity, smooth, shuffle).",
            autocompletion=completed(("none", *MASKS, "word:", *KINDS)),
        ),
    ] = "none",
    scale: Annotated[str, typer.Option(metavar="S", help="How strong the guidance is.")] = "0.75",
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER",
            help="Of guidance: the attention layer by name or glob. Several times for several.",
            show_default="the middle",
        ),
    ] = None,
    seeds: SeedsOption = "0",
    steps: Annotated[
        str | None, typer.Option(metavar="N", help="Steps of the sampler.", show_default="the pipeline's own")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Pixels of the picture, such as 512x768.", show_default="the pipeline's own"),
    ] = None,
    cfg: Annotated[
        str | None,
        typer.Option(
            metavar="S", help="Scale of classifier-free guidance, 1 for none.", show_default="the pipeline's own"
        ),
    ] = None,
    negative: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What not to draw.", show_default="the empty text")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Draw every seed without guidance, too, and both side by side.")
    ] = False,
    preview: Annotated[
        str, typer.Option(metavar="N", help="Write what the sampler is heading for after every N steps; 0 for never.")
    ] = "0",
    out: OutOption = OUT,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw a prompt, guided by the attention of the network that draws.

    A picture a seed, named after the first words of the prompt; with --compare a figure of all seeds with their masks.
    """
    with reported(quiet):
        kind, mask = _guidance(guidance)
        asked = seeds_of(seeds, MOST_SEEDS)
        strength = strength_of(scale, "scale")
        drawing = {
            "steps": None if steps is None else whole_of(steps, "steps", 1, MOST_STEPS),
            "size": None if size is None else sides_of(size, "size"),
            "cfg": None if cfg is None else strength_of(cfg, "cfg"),
            "negative": negative,
            "every": whole_of(preview, "preview", 0, MOST_STEPS),
        }
        if compare and kind is None:
            raise MisuseError("--compare needs guidance to compare with: give --guidance tokenrank, or another")
        stem, digest = stem_of(prompt), digest_of(prompt.encode("utf-8", "surrogatepass"))
        sources = [Source(f"seed {seed}", f"{stem}-{seed}", digest) for seed in asked]
        names = dict.fromkeys([f"{source.stem}.png" for source in sources], digest)
        names |= {f"{stem}-compare.png": digest} if compare else {}
        folder = OutFolder(out, names, overwrite)
        pipe = _pipeline(model)
        shown: list[Guided] = []

        def guided() -> AbstractContextManager[Any]:
            from ..tasks import guide

            if kind is None:
                return nullcontext()
            layers = None if layer is None else list(layer)
            return guide(pipe(), kind, mask=mask, scale=strength, layers=layers)

        def work(source: Source, say: Say) -> None:
            say("loading the model")
            seed = asked[sources.index(source)]
            pipe()
            plain = None
            if compare:
                say("drawing without guidance")
                plain = _drawn(pipe(), prompt, seed, drawing, source, folder, say)
            say("drawing")
            with guided() as told:
                picture = _drawn(pipe(), prompt, seed, drawing, source, folder, say)
            print_path(folder.write(f"{source.stem}.png", _png(picture, digest)))
            if told is not None:
                shares = told.shares
                covered = f", {sum(shares) / len(shares):.0%} of the picture degraded" if shares else ""
                note(f"seed {seed}: {told!r}{covered}")
            if plain is not None:
                from ..view.guided import Guided

                masks = [step[0, 0] for step in told.masks] if kind == "blur" else []
                shown.append(Guided(f"seed {seed}", plain, picture, masks))

        each(sources, "picture", folder, work)
        if shown:
            from ..view import guided_figure, render

            figure = guided_figure(shown, f"{prompt}: {guidance}, scale {strength:g}")
            print_path(folder.write(f"{stem}-compare.png", render(figure, "png", maker(digest))))


def _guidance(text: str) -> tuple[str | None, str]:
    """Kind and mask of guidance; None where there is none."""
    if text == "none":
        return None, "tokenrank"
    if text in KINDS:
        return text, "tokenrank"
    if text in MASKS or (text.startswith("word:") and text != "word:"):
        return "blur", text
    raise MisuseError(
        f"--guidance {text!r}, expected none, {', '.join(MASKS)}, word:WORD, or {', '.join(KINDS[:-1])} or {KINDS[-1]}"
    )


def _pipeline(name: str) -> Any:
    """Gives the pipeline, which is loaded when it is first asked for."""
    held: list[Any] = []

    def loaded() -> Any:
        if not held:
            from ..models import load

            model = load(name)
            if model.pipeline is None:
                raise InputError(
                    f"model {name!r} reads {model.kind}, and draws nothing; give a pipeline of diffusers, such as a "
                    "folder with model_index.json"
                )
            model.pipeline.set_progress_bar_config(disable=True)
            held.append(model.pipeline)
        return held[0]

    return loaded


def _drawn(
    pipe: Any, prompt: str, seed: int, drawing: dict[str, Any], source: Source, folder: OutFolder, say: Say
) -> PIL.Image.Image:
    from ..denoisers.generate import generate

    def watch(step: int, seen: PIL.Image.Image | None) -> None:
        say(f"step {step + 1} of {len(pipe.scheduler.timesteps)}")
        if seen is not None:
            digest = source.digest or ""
            path = folder.write(f"{source.stem}-preview.png", _png(seen, digest), digest)
            note(f"step {step + 1}: {path}")

    return generate(pipe, prompt, seed=seed, watch=watch, **drawing)


def _png(picture: PIL.Image.Image, digest: str) -> bytes:
    from ..tasks.segmentation import png_bytes

    return png_bytes(picture, maker(digest))
