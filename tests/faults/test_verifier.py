"""The verifier itself, on outputs made by hand: what it must find, and what it must not."""

from __future__ import annotations

from typing import Any

import pytest

from .verifier import Place, _report

INPUTS: list[Place] = [("in", 0, offset) for offset in range(4)]


def place(offset: int, **more: Any) -> dict[str, Any]:
    return {"topic": "in", "partition": 0, "offset": offset, **more}


def report(
    scored: list[int], dead: list[int], retried: list[tuple[int, str]], filtered: list[int] | None = None
) -> Any:
    first = {
        "sources": [{"topic": "in", "partition": 0, "first": 0, "last": 3}],
        "filtered": [place(n) for n in filtered or []],
    }
    again = {"sources": [], "filtered": [], "retried": [place(n, outcome=outcome) for n, outcome in retried]}
    annotations = [{"outcome": "scored", "source": place(n)} for n in scored]
    return _report(INPUTS, annotations, [place(n) for n in dead], [first, again])


@pytest.mark.parametrize(
    ("scored", "dead", "retried"),
    [
        ([0, 1, 2, 3], [], []),
        ([0, 1], [2, 3], []),
        ([0, 1, 2], [2, 3], [(2, "scored")]),
        ([0, 1], [2, 2, 3], [(2, "dead_lettered")]),
        ([0, 1, 2], [2, 2, 3], [(2, "dead_lettered"), (2, "scored")]),
        ([0, 1], [2, 3], [(2, "filtered")]),
    ],
)
def test_it_is_content(scored: list[int], dead: list[int], retried: list[tuple[int, str]]) -> None:
    found = report(scored, dead, retried)
    assert found.sound, str(found)
    assert sum(found.ended.values()) == len(INPUTS)


@pytest.mark.parametrize(
    ("scored", "dead", "retried", "wrong"),
    [
        ([0, 1, 2], [], [], "lost"),
        ([0, 1, 2, 3, 3], [], [], "doubled"),
        ([0, 1, 2, 3], [3], [], "doubled"),  # a retry that the ledger does not know
        ([0, 1, 2, 3, 3], [3], [(3, "scored")], "doubled"),
        ([0, 1, 2, 3], [3, 3], [(3, "scored")], "doubled"),
        ([0, 1, 2], [3], [(3, "scored")], "retries_differ"),  # its annotation is lost
        ([0, 1, 2, 3], [], [(3, "scored")], "retries_differ"),  # it never was a dead letter
        ([0, 1, 2, 3], [3], [(3, "dead_lettered")], "retries_differ"),
        ([0, 1, 2, 3, 3], [3], [(3, "scored"), (3, "scored")], "doubled"),
    ],
)
def test_it_finds(scored: list[int], dead: list[int], retried: list[tuple[int, str]], wrong: str) -> None:
    found = report(scored, dead, retried)
    assert not found.sound
    assert getattr(found, wrong) == [INPUTS[3]], str(found)
