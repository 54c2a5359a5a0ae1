"""Pages of the repository outside docs/ become pages of the site; links to its other files become paths."""

from __future__ import annotations

import os.path
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "src/tokenrank/models/bundled/image/README.md": "bundled/pictures.md",
    "src/tokenrank/models/bundled/text/README.md": "bundled/texts.md",
}
"""File of the repository → page of the site."""

LINK = re.compile(r"(?<!!)\[(?P<words>[^\]]+)\]\((?P<file>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
UNIT = re.compile(
    r"(?<=\d) (?=(?:ms|s|min|MB|GB|MiB|GiB|px|%|points)\b|%)"
    r"|(?<=\bn) (?=[=→])|(?<=[=→±<≤≥]) (?=[\d∞])|(?<= p) (?=\d)"
)
POWER = re.compile(r"(?<=\de)-(?=\d)")
CELL = re.compile(r"<t[dh][^>]*>.*?</t[dh]>", re.DOTALL)
CODE = re.compile(r"(<code[^>]*>)(.*?)(</code>)", re.DOTALL)
JOINT = re.compile(r"(?<=[\w\])\"'])([:,/;_]+)(?=\w)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that docs/ does not have."""
    for source, uri in PAGES.items():
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Make the links of a page those of the site."""
    uri = page.file.src_uri
    sources = {there: source for source, there in PAGES.items()}
    source = sources.get(uri) if page.file.abs_src_path is None else None
    written = Path(source or f"docs/{uri}")  # where its links count from

    def there(link: re.Match[str]) -> str:
        file = os.path.normpath(written.parent / link["file"])
        target = PAGES.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        if target is None:
            return f"{link['words']} (`{file}`)" if (ROOT / file).exists() else link[0]
        return f"[{link['words']}]({os.path.relpath(target, Path(uri).parent)}{link['anchor'] or ''})"

    return ROW.sub(lambda row: _kept_together(row[0]), LINK.sub(there, markdown))


def on_page_content(html: str, page: Page, config: Any, files: Files) -> str:
    """Long names in tables may be broken where their parts meet, and nowhere else."""
    return CELL.sub(lambda cell: CODE.sub(lambda m: m[1] + JOINT.sub(r"\1<wbr>", m[2]) + m[3], cell[0]), html)


def _kept_together(row: str) -> str:
    """A row of a table whose numbers stay on one line with their units, signs and powers."""
    pieces = re.split(r"(`[^`]*`)", row)
    return "".join(piece if piece.startswith("`") else POWER.sub("−", UNIT.sub("\u00a0", piece)) for piece in pieces)
