"""Dead letters keep their numbers, in whatever order a reading meets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from broker.cli import where
from broker.cli.dlq import dlq
from broker.core.errors import TocsinError

TEXT = "b partition 0 offset 7: the body ends in the middle (at candidate.jd)"
PLACES = [("b", 0, 7), ("a", 1, 2), ("a", 0, 10), ("a", 0, 9)]


class Shuffled:
    """Outputs that give their dead letters in another order at each reading, as several partitions do."""

    def __init__(self) -> None:
        self.readings = 0

    def dead_letters(self) -> Iterator[dict[str, Any]]:
        self.readings += 1
        turn = self.readings % len(PLACES)
        for topic, partition, offset in PLACES[turn:] + PLACES[:turn]:
            place = {"topic": topic, "partition": partition, "offset": offset}
            times = dict.fromkeys(("timestamp", "ingestTimestamp"), datetime(2026, 1, 1, tzinfo=UTC))
            packet = f"{topic}{partition}{offset}".encode()
            what = {"stage": "decode", "reason": "malformed", "error": TEXT, "brokerVersion": "0.2.0"}
            yield {**place, **times, **what, "packet": packet}

    def ledgers(self) -> Iterator[dict[str, Any]]:
        ends = [(("a", 1, 2), "dead_lettered", "malformed"), (("b", 0, 7), "scored", "")]
        for (topic, partition, offset), outcome, reason in [ends[0], *ends]:
            again = {"topic": topic, "partition": partition, "offset": offset, "outcome": outcome, "reason": reason}
            yield {"retried": [again]}


@pytest.fixture(autouse=True)
def outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = Shuffled()
    monkeypatch.setattr(where, "outputs", lambda *_: shuffled)


def call(*arguments: str) -> str:
    return CliRunner().invoke(dlq, arguments, catch_exceptions=False).output


def test_the_number_of_a_letter_is_the_same_in_list_and_show(tmp_path: Path) -> None:
    listed = [json.loads(line) for line in call("list", "kafka", "--json").splitlines()]
    assert [(letter["topic"], letter["partition"], letter["offset"]) for letter in listed] == sorted(PLACES)
    assert [letter["number"] for letter in listed] == [0, 1, 2, 3]
    for letter in listed:
        out = tmp_path / "packet"
        shown = json.loads(call("show", "kafka", str(letter["number"]), "--json", "--out", str(out)))
        assert shown == letter
        assert out.read_bytes().hex() == letter["packetHead"]


def test_a_packet_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match=r"cannot write .*: Is a directory"):
        call("show", "kafka", "0", "--out", str(tmp_path))


def test_a_limit_takes_the_first() -> None:
    lines = call("list", "kafka", "--limit", "2").splitlines()
    assert [line.split()[-1] for line in lines] == ["a/0/9", "a/0/10"]


def test_a_number_that_is_not_there() -> None:
    with pytest.raises(TocsinError, match="no dead letter 4"):
        call("show", "kafka", "4")


def test_what_was_retried_since_is_said() -> None:
    states = {line.split()[-1]: line for line in call("list", "kafka").splitlines()}
    assert "open" in states["a/0/9"]
    assert "open" in states["a/1/2"], "retried in vain"
    assert "scored" in states["b/0/7"]
    assert [line.split()[-1] for line in call("list", "kafka", "--open").splitlines()] == ["a/0/9", "a/0/10", "a/1/2"]


def test_show_prints_what_a_person_needs() -> None:
    page = call("show", "kafka", "2")
    for row in (
        "reason       malformed, found by: decode",
        f"text         {TEXT}",
        "field        candidate.jd",
        "packet       a, partition 1, offset 2",
        "size         3 bytes",
        "sent         2026-01-01T00:00:00.000+00:00",
        "by tocsin 0.2.0",
        "retried      dead lettered (malformed), then dead lettered (malformed)",
        "to retry     tocsin dlq retry kafka --source a/1/2",
        "00000000     61 31 32                                         |a12|",
    ):
        assert row in page, page
    assert "nothing is to do" in call("show", "kafka", "3")


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ((), ["a/0/9", "a/0/10", "a/1/2"]),
        (("--number", "1-2"), ["a/0/10", "a/1/2"]),
        (("--number", "0", "--number", "3"), ["a/0/9"]),
        (("--source", "a/0"), ["a/0/9", "a/0/10"]),
        (("--source", "a/0/1"), []),
        (("--source", "a/1/2", "--reason", "malformed"), ["a/1/2"]),
        (("--reason", "empty"), []),
        (("--limit", "2"), ["a/0/9", "a/0/10"]),
    ],
)
def test_a_dry_run_says_which_would_be_retried(options: tuple[str, ...], chosen: list[str]) -> None:
    *lines, last = call("retry", "kafka", "--dry-run", *options).splitlines()
    assert [line.split()[-1] for line in lines] == chosen
    assert last == f"{len(chosen)} dead letters would be retried"


def test_a_number_that_is_none_is_wrong_usage() -> None:
    result = CliRunner().invoke(dlq, ["retry", "kafka", "--number", "x"])
    assert result.exit_code == 2
    assert "a range like 3-9" in result.output
