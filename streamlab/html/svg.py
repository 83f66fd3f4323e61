"""A figure of matplotlib's as an element of a page.

Every id is made the figure's own, and what is for files alone is left out. `style` attributes
become attributes of their own, since a strict Content-Security-Policy forbids styles that stand
beside elements.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
# What matplotlib says of all elements in a style sheet, which would reach beyond the figure.
_INHERITED = {"stroke-linejoin": "round", "stroke-linecap": "butt"}


def inline_svg(svg: bytes, *, name: str, title: str, description: str) -> str:
    """Return the figure as a page has it: an image with a title and a description.

    `name` is unique on the page. The text of all three is escaped.
    """
    # What is parsed here was drawn by this process a moment ago.
    root = ET.fromstring(svg)  # noqa: S314
    _drop(root, ("metadata", "style"))
    used = set(_references(root))
    for element in root.iter():
        _rename(element, name, used)
        _split_style(element)
        element.tag = element.tag.removeprefix(_SVG)
    labels = {"title": title, "desc": description}
    for place, (tag, text) in enumerate(labels.items()):
        label = ET.Element(tag, {"id": f"{name}-{tag}"})
        label.text = text
        root.insert(place, label)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{name}-title",
        "aria-describedby": f"{name}-desc",
        **_INHERITED,
    }
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def _drop(root: ET.Element, tags: tuple[str, ...]) -> None:
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in {_SVG + tag for tag in tags}]:
            parent.remove(child)


def _references(root: ET.Element) -> Iterator[str]:
    for element in root.iter():
        for value in element.attrib.values():
            yield from _REFERENCE.findall(value)
        yield element.get(_LINK, "").removeprefix("#")


def _rename(element: ET.Element, name: str, used: set[str]) -> None:
    """Put the figure's name before an id; one that nothing refers to goes."""
    known = element.attrib.pop("id", None)
    if known in used:
        element.set("id", f"{name}-{known}")
    target = element.attrib.pop(_LINK, None)
    if target is not None:
        element.set("href", f"#{name}-{target.removeprefix('#')}")
    for key, value in element.attrib.items():
        element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _split_style(element: ET.Element) -> None:
    for part in element.attrib.pop("style", "").split(";"):
        key, colon, value = part.partition(":")
        if colon:
            element.set(key.strip(), value.strip())
