"""Find the one thing that a person means by a word.

    [KIND:]NAME

KIND is `run` (a name, a number or `latest`), `arrival` (a number), `diff` (a digest or its
beginning), `task` (a name) or `base` (a fingerprint or its beginning). Without a KIND the word
may be a run, a task, or at least six digits of a diff's digest; one that answers to several of
these is refused, and never guessed. A tag is taken for the name of what it is on, with and without
a KIND.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import get_args

from streamlab.errors import NotInRegistryError, UsageError
from streamlab.home.store import ArtifactStore
from streamlab.registry.numbers import read_arrival_number
from streamlab.registry.records import TagKind
from streamlab.registry.registry import Registry
from streamlab.units import nearest
from streamlab.views.pages import arrival_page, base_page, diff_page, run_page, task_page
from streamlab.views.size_bounds import with_bounds
from streamlab.views.table import Page

_DIGEST = re.compile("[0-9a-f]{6,64}")
_TAGGABLE: tuple[TagKind, ...] = get_args(TagKind)


def find_page(
    registry: Registry, word: str, *, run: str = "latest", store: ArtifactStore | None = None
) -> Page:
    """Return the page of what `word` means; a task is looked up in `run`.

    With a store, a diff's page tells how few bytes its parts could take.

    Raises NotInRegistryError where nothing, or more than one thing, answers to it, and
    UsageError for an unknown kind.
    """
    page = _find(registry, word, run)
    return page if store is None else with_bounds(page, registry, store)


def find_taggable(registry: Registry, word: str) -> tuple[TagKind, str]:
    """Return the kind and the name of the run, arrival or diff that `word` means.

    Raises as `find_page` does, and UsageError for a task or a base, which no tag can be on.
    """
    page = _find(registry, word, "latest")
    kind = next((kind for kind in _TAGGABLE if kind == page.kind), None)
    if kind is None:
        raise UsageError(
            f"{word!r} is a {page.kind}; a tag can be on a run, an arrival or a diff. "
            "`streamlab ls` lists them."
        )
    return kind, page.name


def split_tag(word: str) -> tuple[str, TagKind | None]:
    """Take `[KIND:]NAME` of a tag apart. Raises UsageError for an unknown kind."""
    before, colon, name = word.partition(":")
    if not colon:
        return word, None
    kind = next((kind for kind in _TAGGABLE if kind == before), None)
    if kind is None:
        raise UsageError(f"No tag can be on a `{before}`. {nearest(before, _TAGGABLE)}")
    return name, kind


def _find(registry: Registry, word: str, run: str) -> Page:
    kind, colon, name = word.partition(":")
    if not colon:
        return _any(registry, word, run)
    if kind not in _PAGES:
        raise UsageError(f"There is no kind `{kind}` to show. {nearest(kind, list(_PAGES))}")
    return _PAGES[kind](registry, name, run)


def _any(registry: Registry, word: str, run: str) -> Page:
    tagged = {tag.kind for tag in registry.tags(word)}
    kinds = ["run", "task", *(["diff"] if _DIGEST.fullmatch(word) or "diff" in tagged else [])]
    kinds += ["arrival"] if "arrival" in tagged else []
    pages = []
    for kind in kinds:
        try:
            pages.append(_PAGES[kind](registry, word, run))
        except NotInRegistryError:
            continue
    if len(pages) == 1:
        return pages[0]
    if pages:
        answers = ", ".join(f"`{page.kind}:{word}`" for page in pages)
        raise NotInRegistryError(f"{word!r} means more than one thing. Say which: {answers}.")
    names = [record.name for record in registry.runs()]
    names += [task.name for task in registry.tasks()]
    names += [tag.name for tag in registry.tags()]
    # A task of that very name arrived in other runs only.
    hint = "Name its run with `--run`." if word in names else nearest(word, names)
    raise NotInRegistryError(
        f"{word!r} is no run, no task of the run `{run}`, no tag and no beginning of a diff's "
        f"digest. "
        f"{hint} `streamlab ls` lists what there is."
    )


def _untagged(registry: Registry, kind: TagKind, name: str) -> str:
    """Return the name of what a tag is on; any other name as it is."""
    found = [tag.target for tag in registry.tags(name) if tag.kind == kind]
    if found and kind == "run" and name in {record.name for record in registry.runs()}:
        raise NotInRegistryError(
            f"{name!r} is a run, and the tag of the run `{found[0]}`. Take the tag off with "
            f"`streamlab tag --remove run:{name}`."
        )
    return found[0] if found else name


def _run(registry: Registry, name: str, _: str) -> Page:
    return run_page(registry, registry.run(_untagged(registry, "run", name)))


def _arrival(registry: Registry, name: str, _: str) -> Page:
    name = _untagged(registry, "arrival", name)
    return arrival_page(registry, registry.arrival(read_arrival_number(name)))


def _diff(registry: Registry, name: str, _: str) -> Page:
    return diff_page(registry, registry.diff(_untagged(registry, "diff", name)))


def _base(registry: Registry, name: str, _: str) -> Page:
    found = [base for base in registry.bases() if name and base.fingerprint.startswith(name)]
    if len(found) != 1:
        raise NotInRegistryError(
            f"{len(found)} bases have a fingerprint that begins with {name!r}; one is needed. "
            "`streamlab ls bases` lists them."
        )
    return base_page(found[0])


_PAGES: Mapping[str, Callable[[Registry, str, str], Page]] = {
    "run": _run,
    "arrival": _arrival,
    "diff": _diff,
    "task": task_page,
    "base": _base,
}
