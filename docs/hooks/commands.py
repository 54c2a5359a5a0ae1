"""The page of the commands, made of what ``--help`` says when the site is built."""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))  # the commands of this source, whatever is installed
from tokenrank.cli import app

URI = "reference/commands.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the page."""
    files.append(File.generated(config, URI, content=page()))
    return files


def page() -> str:
    """All commands, as Markdown."""
    group = typer.main.get_command(app)
    lines = ["# Commands", "", "What `tokenrank COMMAND --help` says, made from the commands themselves.", ""]
    lines += _options(group)
    lines += [line for name, command in group.commands.items() for line in _command(name, command)]  # type: ignore[attr-defined]
    return "\n".join(lines)


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [_argument(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    yield from (
        "",
        f"## tokenrank {name}",
        "",
        "```",
        " ".join(["tokenrank", name, *arguments, "[OPTIONS]"]),
        "```",
        "",
    )
    yield from (_prose(command.help or ""), "")
    yield from _options(command)
    if command.epilog:
        yield from ("", _prose(command.epilog))


def _argument(parameter: Any) -> str:
    shown = parameter.metavar or parameter.name.upper()
    shown += "..." if parameter.nargs != 1 and "..." not in shown else ""
    return shown if parameter.required else f"[{shown.strip('[]')}]"


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        is_option = parameter.param_type_name == "option"
        names = [*parameter.opts, *parameter.secondary_opts] if is_option else [_argument(parameter)]
        default = _default(parameter)
        yield from ("", ", ".join(f"`{name}`" for name in names))
        yield f":   {_text(parameter.help or '')}{f' Default: {default}.' if default else ''}"


def _default(parameter: Any) -> str:
    """Words that stand for the default, or its value; nothing where there is none, or the help has said it."""
    shown, value = getattr(parameter, "show_default", True), getattr(parameter, "default", None)
    if isinstance(shown, str):
        return _text(shown)
    if not shown or callable(value) or value in (None, False, (), []):
        return ""
    if value is True:
        return f"`{parameter.opts[0]}`"
    return f"`{getattr(value, 'value', value)}`"


def _prose(text: str) -> str:
    """Paragraphs as they are; indented lines, and lines that begin with the command, as code."""
    blocks = re.split(r"\n\s*\n", text.replace("\b", "").strip("\n"))
    return "\n\n".join(_block(block) for block in blocks)


def _block(block: str) -> str:
    lines = block.splitlines()
    if any(line.lstrip().startswith("tokenrank ") for line in lines):
        words = [line.strip() for line in lines if not line.lstrip().startswith("tokenrank ")]
        code = [line.strip() for line in lines if line.lstrip().startswith("tokenrank ")]
        return "\n".join([*map(_text, words), "", "```", *code, "```"])
    return "\n".join(_text(line.strip()) for line in lines)


def _text(words: str) -> str:
    """Help as Markdown: rich's escaped brackets plain, bars and angles as they are shown."""
    plain = " ".join(words.replace("\\[", "[").split())
    return html.escape(plain, quote=False).replace("*", "\\*").replace("_", "\\_")
