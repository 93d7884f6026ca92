"""One HTML file that needs nothing else: no script, no font or image from outside.

Every text from files, captions and classes goes through `text`; `Html` is what is escaped already.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NewType

from ...utils.shown import visible
from .style import STYLE

Html = NewType("Html", str)

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def text(value: object) -> Html:
    """A value as HTML shows it, whatever it holds: nothing in it is markup or acts."""
    return Html(html.escape(visible(str(value)).replace("\x00", ""), quote=True))


def join(parts: Iterable[Html], between: str = "") -> Html:
    """Pieces one after the other; between: text."""
    return Html(text(between).join(parts))


def element(name: str, *content: Html, **attributes: object) -> Html:
    """<name attribute="value">content</name>. A trailing _ of an attribute's name is left out.

    >>> element("p", text("a < b"), class_="x")
    '<p class="x">a &lt; b</p>'
    """
    given = [f' {key.rstrip("_")}="{text(value)}"' for key, value in attributes.items()]
    return Html(f"<{name}{''.join(given)}>{''.join(content)}</{name}>")


def section(title: str, *content: Html, note: str = "") -> Html:
    """A heading with what stands below it, and a line of explanation; "" where there is nothing."""
    if not any(content):
        return Html("")
    said = [element("p", text(note), class_="note")] if note else []
    return element("section", element("h2", text(title)), *said, *content)


def table(head: Sequence[str], rows: Sequence[Sequence[object]], strong: int = 0) -> Html:
    """Rows of cells, the first column left, the others right; the first `strong` rows stand out."""
    top = element("tr", *(element("th", text(cell)) for cell in head))
    lines = []
    for number, row in enumerate(rows):
        cells = [element("td", text(cell)) for cell in row]
        lines.append(element("tr", *cells, class_="strong" if number < strong else "plain"))
    body = element("table", element("thead", top), element("tbody", *lines))
    return element("div", body, class_="wide")


def folded(title: str, *content: Html) -> Html:
    """What is shown when its title is clicked; not printed while it is folded."""
    return element("details", element("summary", text(title)), *content)


def numbers(pairs: Sequence[tuple[str, str, str]]) -> Html:
    """The scores that matter most, large: (name, value, what stands below it)."""
    cards = []
    for name, value, below in pairs:
        parts = (("span", name, "name"), ("b", value, "value"), ("span", below, "below"))
        shown = [element(tag, text(said), class_=kind) for tag, said, kind in parts if said]
        cards.append(element("div", *shown, class_="card"))
    return element("div", *cards, class_="numbers")


def page(title: str, subtitle: str, sections: Iterable[Html]) -> str:
    """The whole file."""
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        element("title", text(title)),
        element("style", Html(STYLE)),
    ]
    top = element("header", element("h1", text(title)), element("p", text(subtitle)))
    body = element("main", top, *sections)
    parts = ["<!doctype html>", '<html lang="en">', "<head>", *head, "</head>"]
    return "\n".join([*parts, f"<body>{body}</body>", "</html>"]) + "\n"
