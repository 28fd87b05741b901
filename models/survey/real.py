"""Where real sets lie: in a folder that the user names, since none of them is ours to pass on."""

from __future__ import annotations

from pathlib import Path

from broker.core.errors import TocsinError


def file(data: Path | None, name: str) -> Path:
    """Return a file of the folder of real sets.

    Raises
    ------
    TocsinError
        No folder is named, or it has no such file.
    """
    if data is None:
        raise TocsinError("a real set is needed: name the folder of the real sets by --data DIR or $TOCSIN_TEST_DATA")
    if not (data / name).exists():
        raise TocsinError(f"the folder of real sets {data} has no {name}")
    return data / name
