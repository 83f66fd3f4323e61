"""Pages to test: of a run with a baseline and two seeds, and of one where every name is hostile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

from streamlab.home.folder import Home
from streamlab.html.document import build_page
from streamlab.registry.records import NewScore
from streamlab.registry.registry import Registry

NOW = 1_790_000_000.0
SCRIPT = "<script>alert(1)</script>\"'&</style><img src=x onerror=alert(2)>"
HEBREW = "\u05e9\u05dc\u05d5\u05dd"  # written from right to left
VOID = {"meta", "link", "br", "img", "hr", "input"}


@dataclass
class Element:
    """An element of a parsed page."""

    tag: str
    attributes: dict[str, str]
    parent: Element | None
    children: list[Element] = field(default_factory=list)
    own_text: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text in it, its own before its children's."""
        return "".join([*self.own_text, *(child.text for child in self.children)])

    def all(self, *tags: str) -> list[Element]:
        """Return every element below it of these tags, or of any, in order."""
        found = []
        for child in self.children:
            found += [child] if not tags or child.tag in tags else []
            found += child.all(*tags)
        return found

    def one(self, **attributes: str) -> Element:
        """Return the only element below it with these attributes."""
        (found,) = [e for e in self.all() if attributes.items() <= e.attributes.items()]
        return found

    def cells(self) -> list[list[str]]:
        """Return the rows of a table: the raw number of a cell that has one, or its text."""
        (body,) = self.all("tbody")
        return [
            [next((d.attributes["value"] for d in c.all("data")), c.text) for c in row.children]
            for row in body.all("tr")
        ]

    def headers(self) -> list[str]:
        """Return the words over a table's columns."""
        (head,) = self.all("thead")
        return [cell.text for cell in head.all("th")]


class Reader(HTMLParser):
    """Reads a page into elements; every one that is opened must be closed in its turn."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.here = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, self.here)
        self.here.children.append(element)
        if tag not in VOID:
            self.here = element

    def handle_endtag(self, tag: str) -> None:
        assert self.here.tag == tag, f"</{tag}> ends <{self.here.tag}>"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.own_text.append(data)


def parsed(page: str) -> Element:
    """Parse a page."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.here is reader.root
    return reader.root


def page_of(home: Home, run: str = "latest") -> str:
    """Return the page of a run, as if nothing were wrong with its home."""
    with Registry.open(home.registry_url, clock=time.time, read_only=True) as registry:
        return build_page(registry, home, registry.runs.get(run), (), now=NOW)


def hostile_home(model: Home, folder: Path) -> Home:
    """Make a home whose run, tasks, provider, reasons and settings all are hostile.

    The records are those of `model` but for the names; its files are not copied.
    """
    home = Home(folder)
    home.create()
    with (
        Registry.open(model.registry_url, clock=time.time, read_only=True) as other,
        Registry.open(home.registry_url, clock=time.time) as registry,
    ):
        registry.bases.add(replace(other.bases.list()[0], model=SCRIPT))
        run = other.runs.get("latest")
        names = (SCRIPT, HEBREW + "\u202e")
        scenario = dict(run.scenario) | {
            "name": SCRIPT,
            "seeds": [1],
            "tasks": {name: {"dataset": SCRIPT, "metric": name} for name in names},
        }
        run = registry.runs.start(
            replace(run, scenario=scenario, scenario_name=SCRIPT, environment={SCRIPT: SCRIPT})
        )
        arrivals = other.arrivals.list(method="diff_pruning", seed=1, status="finished")
        # As text, a thousand rows would stand before nine.
        for name, n_examples, arrival in zip(names, (1000, 9), arrivals, strict=True):
            again = replace(
                arrival, run_id=run.id, task=name, provider=SCRIPT, source_detail=SCRIPT,
                n_train_examples=n_examples,
            )  # fmt: skip
            score = NewScore(
                metric="accuracy", value=0.5, split="dev", n_examples=9,
                after_sequence=arrival.sequence, is_primary=True,
            )  # fmt: skip
            registry.arrivals.add(again, other.artifacts.get(arrival.digest or ""), [score])
        registry.arrivals.add_failed(replace(again, version=2), SCRIPT)
        registry.runs.finish(run.id, "failed", SCRIPT)
    return home
