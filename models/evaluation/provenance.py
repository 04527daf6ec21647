"""The section on provenance of a model's README, as HTML."""

import re
from html import escape
from itertools import groupby
from pathlib import Path

SECTION = re.compile(r"^## Provenance\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
ITEM = "- "


def provenance(readme: Path) -> str:
    """Its paragraphs and lists, with code, bold text and links; empty where there is no such section."""
    section = SECTION.search(readme.read_text(encoding="utf-8")) if readme.exists() else None
    if section is None:
        return ""
    blocks = re.split(r"\n(?=- )|\n\s*\n", section[1].strip())
    parts = []
    for is_list, group in groupby(blocks, lambda block: block.startswith(ITEM)):
        texts = [_inline(block.removeprefix(ITEM), readme.parent.name) for block in group]
        if is_list:
            parts.append("<ul>" + "".join(f"<li>{text}</li>" for text in texts) + "</ul>")
        else:
            parts += [f"<p>{text}</p>" for text in texts]
    return "\n".join(parts)


def _inline(text: str, model: str) -> str:
    """Code, bold and links of one block; a relative link is one from the model's folder."""

    def link(match: re.Match[str]) -> str:
        target = match[2] if "://" in match[2] else f"../../models/{model}/{match[2]}"
        return f'<a href="{target}">{match[1]}</a>'

    html = escape(" ".join(text.split()))
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    html = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)
    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", link, html)
