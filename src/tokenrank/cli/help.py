"""Help of the commands: plain text at any width, with examples that run."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from .plainly import plainly

WIDEST, NARROW = 88, 60  # columns; below the latter help stands under its option
INDENT, GAP, FIRST = 2, 2, 22
_HELP = ("--help", "Show this message.")


class Command(TyperCommand):
    """A command whose help this module words."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, what it does, examples, arguments and options."""
        shown = [p for p in self.params if not getattr(p, "hidden", False)]
        arguments = [(_name(p), p) for p in shown if p.param_type_name == "argument"]
        options = [(_names(p), p) for p in shown if p.param_type_name == "option"]
        usage = " ".join([ctx.command_path, *(name for name, _ in arguments), "[OPTIONS]"])
        formatter.write(_page(usage, self, {"Arguments": _told(arguments), "Options": [*_told(options), _HELP]}))


class Group(TyperGroup):
    """The command of commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, the commands and the options."""
        options = [(_names(p), p) for p in self.params if not getattr(p, "hidden", False)]
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        commands = [(name, first_sentence(command.help or "")) for name, command in found if command is not None]
        usage = f"{ctx.command_path} COMMAND [OPTIONS]"
        formatter.write(_page(usage, self, {"Commands": commands, "Options": [*_told(options), _HELP]}))


def examples(*lines: str) -> str:
    """An epilog of commands that run as they stand."""
    return "\n".join(["Examples:", "", *(f"  {line}" for line in lines)])


def columns() -> int:
    """Width to write help in, of the terminal or of COLUMNS."""
    import shutil

    return max(20, min(WIDEST, shutil.get_terminal_size().columns))


def _page(usage: str, command: Any, lists: dict[str, Sequence[tuple[str, str]]]) -> str:
    width = columns()
    parts = [_wrapped(usage, width, f"{_heading('Usage:')} ", "    ")]
    parts += [_wrapped(part, width) for part in (command.help or "").split("\n\n")]
    parts += [_epilog(command.epilog, width)] if command.epilog else []
    parts += [f"{_heading(title + ':')}\n" + "\n".join(_rows(rows, width)) for title, rows in lists.items() if rows]
    return plainly("\n\n".join(parts) + "\n", sys.stdout)


def _epilog(text: str, width: int) -> str:
    """Examples stay whole, since they are copied; what follows them is wrapped."""
    head, *rest = text.replace("\n\n", "\n", 1).split("\n\n")
    title, *lines = head.splitlines()
    return "\n\n".join(["\n".join([_heading(title), *lines]), *(_wrapped(part, width) for part in rest)])


def _rows(rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    if width < NARROW:
        for name, words in rows:
            yield " " * INDENT + name
            yield _wrapped(words, width, " " * 3 * INDENT, " " * 3 * INDENT)
        return
    longest = max(len(name) for name, _ in rows)
    begin = INDENT + min(longest, FIRST) + GAP
    for name, words in rows:
        first = " " * INDENT + name
        if len(first) + GAP > begin:
            yield first
            first = ""
        yield _wrapped(words, width, first.ljust(begin), " " * begin)


def _wrapped(text: str, width: int, first: str = "", later: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()), width, initial_indent=first, subsequent_indent=later, break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip


def first_sentence(text: str) -> str:
    """Of a help."""
    return " ".join(text.split("\n\n")[0].split()).split(". ")[0].rstrip(".") + "."


def _told(parameters: Sequence[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(name, " ".join(filter(None, [parameter.help, _default(parameter)]))) for name, parameter in parameters]


def _name(parameter: Any) -> str:
    """Of an argument."""
    name = str(parameter.metavar or parameter.name.upper())
    return name if parameter.required else f"[{name.strip('[]')}]"


def _names(parameter: Any) -> str:
    """Of an option, and what it takes."""
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.metavar or parameter.name.upper()}"


def _default(parameter: Any) -> str:
    shown, value = getattr(parameter, "show_default", True), getattr(parameter, "default", None)
    if isinstance(shown, str):
        return f"Default: {shown}."
    if not shown or callable(value) or value in (None, False, (), []):
        return "Required." if parameter.required and parameter.param_type_name == "option" else ""
    return f"Default: {value}."


def _heading(words: str) -> str:
    """Bold where a terminal shows it; typer takes the codes out where none does."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return words if plain else typer.style(words, bold=True)
