"""Markup that is safe by construction: a plain string is text, and only an Html is markup."""

import html
import json
from collections.abc import Mapping

_VOID = frozenset({"input", "img", "meta"})  # elements without an end tag


class Html(str):
    """Markup, trusted as it stands; made by the functions of this file."""


def text(content: str) -> Html:
    """Any string as the text of a page; bytes of no encoding, as in file names, show as escapes."""
    if isinstance(content, Html):
        return content
    return Html(html.escape(content.encode("utf-8", "backslashreplace").decode("utf-8")))


def element(tag: str, attributes: Mapping[str, str], *children: str) -> Html:
    """One element; attributes' values and children that are no Html are escaped."""
    names = "".join(f' {name}="{text(str(value))}"' for name, value in attributes.items())
    if tag in _VOID:
        return Html(f"<{tag}{names}>")
    return Html(f"<{tag}{names}>{together(*children)}</{tag}>")


def together(*parts: str) -> Html:
    """Parts one after the other."""
    return Html("".join(map(text, parts)))


def name_of_file(name: str) -> Html:
    """A name somebody else chose, kept from reordering the text around it."""
    return element("bdi", {"class": "name"}, name)


def data_block(identifier: str, content: object) -> Html:
    """JSON for the page's scripts, which no string in it can end; ValueError for NaN."""
    encoded = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        encoded = encoded.replace(character, f"\\u{ord(character):04x}")
    return element("script", {"type": "application/json", "id": identifier}, Html(encoded))
