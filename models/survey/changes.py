"""What differs between two statements of the same thing, in words: leaf by leaf."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def changes(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Yield what differs, each once, where it is; what has a name goes by it."""
    named = [_by_name(one) for one in (old, new)]
    old, new = ({} if one == () and dict in map(type, named) else one for one in named)
    if not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            yield f"{where} was {old!r}, is {new!r}"
        return
    for key in old | new:
        inner = f"{where} {key}".strip()
        if key not in old or key not in new:
            yield f"{inner} is {'new' if key in new else 'gone'}"
        else:
            yield from changes(old[key], new[key], inner)
    if old.keys() == new.keys() and list(old) != list(new):
        yield f"{where} are in another order"


def _by_name(found: Any) -> Any:
    """Return a list of things with names as a dict, and anything else as it is."""
    if isinstance(found, tuple | list) and found and all(isinstance(one, dict) and "name" in one for one in found):
        return {one["name"]: {key: value for key, value in one.items() if key != "name"} for one in found}
    return found
