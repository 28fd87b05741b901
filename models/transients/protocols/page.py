"""The page of a protocol under ``models/results``: what was done, the table, the plots, how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from broker.models.transients.protocols import table
from broker.models.transients.protocols.unit import Protocol, Result, Unit, results


def path(protocol: Protocol, root: Path) -> Path:
    """Return where the page of a protocol lies under ``root``."""
    return root / f"{protocol.name}.md"


def write(protocol: Protocol, root: Path) -> Path:
    """Draw the plots into the protocol's folder, write the page beside it, and return the page's path."""
    found = results(protocol, root)
    folder = root / protocol.name
    folder.mkdir(parents=True, exist_ok=True)
    figures = protocol.plots(found, folder) if found else []
    page = path(protocol, root)
    page.write_text(text(protocol, found, figures))
    return page


def text(protocol: Protocol, found: Mapping[Unit, Result], figures: list[tuple[str, str]]) -> str:
    """Return the page; ``figures`` are (file name, caption), the files in the folder named as the protocol."""
    drawn = "".join(f"\n![{caption}]({protocol.name}/{name})\n\n*{caption}*\n" for name, caption in figures)
    return f"""# {protocol.name}: {protocol.title}

{protocol.about}

{table.markdown(protocol, found)}
Mean ± standard deviation over the parts. "Met" compares the mean with the goal.
{drawn}
Made by `tocsin evaluate {protocol.name}` out of the results in [`{protocol.name}/`]({protocol.name}/); it makes those
that are missing. The {len(found)} there are took {_minutes(found)} on one core; networks found in the cache took none.
"""


def is_current(protocol: Protocol, root: Path) -> bool:
    """Return whether the page holds the table that the results give."""
    page = path(protocol, root)
    return page.exists() and table.markdown(protocol, results(protocol, root)) in page.read_text()


def _minutes(found: Mapping[Unit, Result]) -> str:
    seconds = sum(float(result.get("seconds", 0.0)) for result in found.values())
    return f"{seconds / 60.0:.0f} minutes" if seconds >= 90.0 else f"{seconds:.0f} seconds"
