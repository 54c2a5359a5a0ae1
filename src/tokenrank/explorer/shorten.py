"""JavaScript with fewer blanks: what no reader of the code needs, and no browser.

``shortened(text)`` leaves out comments, and blanks and ends of lines between tokens that stay apart without them.
Names, strings and order are as they were. Ends of lines go only where a line plainly goes on: behind an opening
bracket, a comma or an operator, or before a closing bracket, a point or an operator, so that no statement ends
elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# behind these a slash begins a regular expression; behind names, numbers and closing brackets it divides
_BEFORE_PATTERN = re.compile(
    r"(?:^|[-+*%&|^!~?:;,<>=({\[]|\b(?:return|typeof|case|in|of|yield|await|delete|void|else|do))$"
)
_TOKEN = re.compile(
    r"""(?P<blank>\s+)
    |(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
    |(?P<template>`)
    |(?P<pattern>/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*)
    |(?P<word>[\w$#]+(?:\.\d[\w]*)?)
    |(?P<sign>\+\+|--|=>|\?\.|\.\.\.|[-+*/%&|^!~?:;,.<>=(){}\[\]])""",
    re.VERBOSE | re.DOTALL,
)
_GOES_ON_BEHIND = re.compile(r"[-+*%&|^!?:;,<>=({\[]$")
_GOES_ON_BEFORE = re.compile(r"[&|?:,.)}\]=]")


def shortened(text: str) -> str:
    """The same program in fewer letters.

    Raises:
        ValueError: what is no token of JavaScript.
    """
    out: list[str] = []
    last, blank = "", ""
    for kind, token in tokens(text):
        if kind in ("blank", "comment"):
            blank += token if kind == "blank" else " "
            continue
        if last:
            out.append(_between(last, token, blank))
        out.append(token)
        last, blank = token, ""
    return "".join(out)


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind and letters of every token, blanks and comments among them; a template is one token."""
    at, before = 0, ""
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match and match.lastgroup == "pattern" and not _BEFORE_PATTERN.search(before):
            kind, token = "sign", "/"
        elif match and match.lastgroup == "template":
            kind, token = "template", text[at : _template_end(text, at)]
        elif match and match.lastgroup:
            kind, token = match.lastgroup, match[0]
        else:
            raise ValueError(f"{text[at : at + 40]!r} is no token of JavaScript that is known here")
        at += len(token)
        if kind not in ("blank", "comment"):
            before = "x" if kind in ("string", "template", "pattern") or token in ("++", "--") else token
        yield kind, token


def _template_end(text: str, at: int) -> int:
    """Where a template ends that begins at ``at``; code within ``${}`` may hold others."""
    at += 1
    while text[at] != "`":
        if text.startswith("${", at):
            depth, inner = 1, at + 2
            for _, token in tokens(text[inner:]):
                depth += {"{": 1, "}": -1}.get(token, 0)
                inner += len(token)
                if not depth:
                    break
            at = inner
        else:
            at += 2 if text[at] == "\\" else 1
    return at + 1


def _between(last: str, token: str, blank: str) -> str:
    """What stays of the blanks between two tokens."""
    if not blank:
        return ""
    if "\n" in blank:
        counts = last in ("++", "--") or token in ("++", "--")
        goes_on = _GOES_ON_BEHIND.search(last) or _GOES_ON_BEFORE.match(token)
        return "" if goes_on and not counts and not _joins(last, token) else "\n"
    return " " if _joins(last, token) else ""


def _joins(last: str, token: str) -> bool:
    """Whether two tokens would be read as others without a blank between them."""
    a, b = last[-1], token[0]
    if re.match(r"[\w$#]", a) and re.match(r"[\w$#]", b):
        return True
    return (
        (a in "+-" and b in "+->") or (a == "<" and b in "!/") or (a == "/" and b in "/*") or (a.isdigit() and b == ".")
    )
