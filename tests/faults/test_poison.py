"""Packets that kill the process or break the step: found, dead-lettered as internal, and the stream goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.core.topics import Topics
from broker.deliver.outputs import DirectoryOutputs, KafkaOutputs, Outputs
from tests.deliver.fakes import file_packets, number_of

from .service import FULL, Member, Service, wait_until
from .verifier import verify_directory

DEADLY = [150, 151, 420, 700, 701, 703] if FULL else [420]
FAILING = [33, 421]
DIED = 139
DEATHS = 9
"""Enough for one packet: one in a batch without a note, one with, one at eight, two alone; and some more where a busy
machine closes the first batch of a life before the packet."""


def lives(start: Callable[[int], Member], done: Callable[[], bool], most: int) -> int:
    """Start a member again after each death, as a supervisor does, until all is read; return the deaths."""
    for deaths in range(most):
        member = start(deaths)
        wait_until(lambda member=member: not member.alive or done(), "the end of a life")  # type: ignore[misc]
        if member.process.poll() != DIED:
            return deaths
        member.ends(DIED)
    raise AssertionError(f"{most} deaths were not enough")


def given_up(outputs: Outputs) -> dict[int, str]:
    """Return the text of each packet that is dead as internal, by its number."""
    letters = (letter for letter in outputs.dead_letters() if letter["reason"] == "internal")
    return {number_of(letter["packet"]): letter["error"] for letter in letters}


def check(outputs: Outputs) -> None:
    found = given_up(outputs)
    assert sorted(found) == sorted(DEADLY + FAILING), "these and no other"
    assert {found[n] for n in DEADLY} == {"the process died 2 times while it worked on this packet alone"}
    assert all(found[n].startswith("ZeroDivisionError: a bug (member.py, line ") for n in FAILING)


@pytest.mark.kafka
@pytest.mark.slow
def test_packets_that_kill_the_process_are_found(service: Service) -> None:
    """Each life is another member's, on a fresh disk: all that is remembered lies in Kafka."""
    service.feed(800)

    def start(life: int) -> Member:
        cache = service.folder / f"life{life}"
        cache.mkdir()
        return service.start(f"member{life}", cache=str(cache), batch=64, deadly=DEADLY, failing=FAILING)

    deaths = lives(start, lambda: not service.lag(), DEATHS * len(DEADLY))
    service.members[-1].leave()
    print(f"{len(DEADLY)} packets took {deaths} deaths")  # noqa: T201
    service.judge()
    check(KafkaOutputs(service.kafka.config, Topics(service.prefix)))


def test_packets_that_kill_a_replay_are_found(tmp_path: Path) -> None:
    options = {"mode": "files", "count": 800, "prefix": "t", "batch": 64, "directory": str(tmp_path)}
    lives(lambda life: Member({**options, "deadly": DEADLY, "failing": FAILING}), lambda: False, DEATHS * len(DEADLY))
    report = verify_directory(tmp_path, [(p.path, 0, p.record) for p in file_packets(Path("/in"), 800)])
    assert report.sound, str(report)
    check(DirectoryOutputs(tmp_path))
    assert not (tmp_path / "in_flight.json").exists(), json.loads((tmp_path / "in_flight.json").read_text())
