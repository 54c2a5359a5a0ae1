"""The explorer as one HTML file: module, index and blob in it, nothing from outside, and a policy that says so.

The module stands in front of the data, so that a file that was cut off still runs it, and it says what is missing;
where even the module is torn, the sentence in the page stays.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from ..html import escape
from .blob import as_json
from .module import joined

_STYLE = (
    "html{color-scheme:light dark;background:#fff}body{margin:0}"
    "@media(prefers-color-scheme:dark){html{background:#131318}}"
    "p{font:14px/1.5 system-ui,sans-serif;max-width:40em;margin:2em}"
)
_START = "mount(document.querySelector('main'), document, {link: true, focus: true}).catch(() => {})"
_WAITING = (
    "The explorer of attention opens here. If this sentence stays, the file is incomplete: it was cut off on its way. "
    "Copy or save it again."
)
_UNABLE = "This page needs JavaScript, which is off here. It asks nothing of the network."


def html(index: Mapping[str, Any], parts: Sequence[bytes]) -> str:
    """The whole page.

    Args:
        index: of types.js, whose offsets count from the beginning of the first part.
        parts: of the blob, in order: pictures and thumbnails first, then one a stored layer.

    Returns:
        A document whose policy allows its own module and style by their hashes, WebAssembly, pictures and a worker out
        of the page itself, and no request, no form, no frame. Text of the index is data in it, whatever it holds.

    Raises:
        ValueError: the index holds a number that is not finite.
    """
    module = f"{joined()}{_START}\n"
    tags, at = [], 0
    for part in parts:
        tags.append(
            f'<script type="application/octet-stream" data-at="{at}" data-length="{len(part)}">'
            f"{b64encode(part).decode()}</script>"
        )
        at += len(part)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy(module)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta name="generator" content="{escape(index["generator"])}">',
            f"<title>{escape(index['title'])} · tokenrank explorer</title>",
            f"<style>{_STYLE}</style>\n</head>\n<body>",
            f"<main><noscript><p>{_UNABLE}</p></noscript><p>{_WAITING}</p></main>",
            f'<script type="module">{module}</script>',
            f'<script type="application/json" id="index">{as_json(index)}</script>',
            *tags,
            "</body>\n</html>\n",
        ]
    )


def policy(module: str) -> str:
    """What the page may do (Content-Security-Policy), for a module of this text."""
    return (
        f"default-src 'none'; script-src {_hash(module)} 'wasm-unsafe-eval'; style-src {_hash(_STYLE)}; "
        "img-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
