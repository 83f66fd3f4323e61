"""Figures as inline SVG elements of a page.

Every id is prefixed with the figure's name, and metadata is dropped. `style` attributes become
presentation attributes, since a strict Content-Security-Policy forbids inline styles.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from streamlab.errors import StreamlabError
from streamlab.figures.catalogue import FIGURES, CatalogueEntry
from streamlab.figures.style import drawn_svg
from streamlab.views.run_source import RunSource

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
# From matplotlib's style sheet, which would apply to the whole page.
_INHERITED = {"stroke-linejoin": "round", "stroke-linecap": "butt"}


@dataclass(frozen=True)
class InlineFigure:
    """One figure as an element of the page, or the reason why it is left out."""

    entry: CatalogueEntry
    svg: str | None
    reason: str | None = None
    caption: str = ""


def inline_figures(source: RunSource) -> Iterator[InlineFigure]:
    """Draw every figure of a run; one that does not apply to it comes with the reason."""
    for entry in FIGURES:
        try:
            figure = entry.read(source)
        except StreamlabError as error:
            # A damaged file must not prevent the page that reports it.
            reason = str(error).replace(str(source.home.path), "this home")
            yield InlineFigure(entry, None, reason)
            continue
        if figure.trivial is not None:
            yield InlineFigure(entry, None, figure.trivial)
            continue
        svg, caption = drawn_svg(figure.draw)
        described = f"{entry.reading} {caption}"
        name = f"figure-{entry.name}"
        element = inline_svg(svg, name=name, title=entry.title, description=described)
        yield InlineFigure(entry, element, caption=caption)


def inline_svg(svg: bytes, *, name: str, title: str, description: str) -> str:
    """Return a figure as an `<svg>` element with a title and a description.

    `name` is unique on the page. All texts are escaped.
    """
    root = ET.fromstring(svg)  # noqa: S314 - drawn by this process
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
    """Prefix an id with the figure's name; drop an id that nothing refers to."""
    known = element.attrib.pop("id", None)
    if known in used:
        element.set("id", f"{name}-{known}")
    target = element.attrib.pop(_LINK, None)
    if target is not None:
        is_image = target.startswith("data:")  # cells too many to be drawn one by one
        element.set("href", target if is_image else f"#{name}-{target.removeprefix('#')}")
    for key, value in element.attrib.items():
        element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _split_style(element: ET.Element) -> None:
    for part in element.attrib.pop("style", "").split(";"):
        key, colon, value = part.partition(":")
        if colon:
            element.set(key.strip(), value.strip())
