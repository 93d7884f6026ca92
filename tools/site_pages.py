"""Hooks of MkDocs (mkdocs.yml): pages from outside docs/, and Markdown as its parser wants it.

README.md, CONTRIBUTING.md, SECURITY.md and CHANGELOG.md lie at the top, where code hosts look for
them, and are written as those show Markdown: a list may follow a paragraph without a blank line and
is nested by two blanks. Python-Markdown needs the line and four. A page of docs/ that the
navigation does not name comes last in it, under "More".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOP = {name: name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")}
TOP["README.md"] = "index.md"
ITEM = re.compile(r"(?P<blanks> *)(?:[-*+]|\d+\.) ")


def on_config(config: Any) -> Any:
    """Pages that the navigation lacks, at its end."""
    named = set(pages_of(config.nav))
    rest = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in named)
    if rest:
        config.nav = [*config.nav, {"More": rest}]
    return config


def pages_of(nav: Any) -> Iterator[str]:
    """Every page that a navigation names."""
    if isinstance(nav, str):
        yield nav
        return
    for item in nav.values() if isinstance(nav, dict) else nav:
        yield from pages_of(item)


def on_files(files: Any, config: Any) -> Any:
    """The pages at the top, as if they lay in docs/."""
    from mkdocs.structure.files import File  # an extra: requirements-docs.txt

    for source, name in TOP.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=from_top(text)))
    return files


def from_top(text: str) -> str:
    """Links that count from the top of the repository, as they count from docs/."""
    text = re.sub(r"\]\(docs/", "](", text)
    return text.replace("](README.md", "](index.md")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Every page: links out of docs/ to pages of the site, and lists as the parser wants them."""
    for source, name in TOP.items():
        markdown = markdown.replace(f"](../{source}", f"]({name}")
    return "\n".join(parsed_lists(markdown.split("\n")))


def parsed_lists(lines: list[str]) -> Iterator[str]:
    """Lines in which a list has a blank line before it, and what is nested four blanks a level."""
    fenced = in_list = False
    before = ""
    for line in lines:
        if line.lstrip().startswith("```"):
            fenced = not fenced
        item = ITEM.match(line)
        if fenced or line.lstrip().startswith("```"):
            yield line
        elif item and not in_list:
            if before.strip():
                yield ""
            in_list = True
            yield line
        else:
            in_list = in_list and (not line.strip() or line.startswith(" ") or item is not None)
            yield nested(line) if in_list else line
        before = line


def nested(line: str) -> str:
    """A line within a list, four blanks for each two."""
    blanks = len(line) - len(line.lstrip(" "))
    return " " * (2 * blanks if blanks % 2 == 0 else blanks) + line.lstrip(" ")
