"""Members that come and go under load, and two processes with one transactional id."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from .service import FULL, Member, Service, recoveries

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SLOW: dict[str, Any] = {"pause_s": 0.02, "batch": 20}


def test_one_four_two_members(service: Service) -> None:
    """A group grows from one member to four, then one leaves and one is killed, again and again under load."""
    chance = random.Random(3)
    members = [service.start("0", **SLOW)]
    service.feed(100)
    members[0].wait_for_batches()
    with service.feeding():  # there is work for each member, however long it takes to join
        for _ in range(5 if FULL else 1):
            free = sorted(set("0123") - {member.name for member in members})
            members += [service.start(name, **SLOW) for name in free]
            balanced(members, "members join, up to four")
            chance.shuffle(members)
            members.pop().leave()
            balanced(members, "a member of four leaves")
            members.pop().kill()
            balanced(members, "a member of three is killed")
    service.finish(*members)
    service.judge()


def balanced(members: list[Member], fault: str) -> None:
    """Wait until every member has delivered a batch since now; note how long that took."""
    began = time.monotonic()
    for member in members:
        member.wait_for_batches(1, since=began)
    recoveries.append((f"{fault}: until all deliver", time.monotonic() - began))


def test_two_processes_with_one_transactional_id(service: Service, tmp_path: Path) -> None:
    """The second takes over; the first says so and ends; what it had in flight is delivered once."""
    with service.feeding():
        member = service.start("same", **SLOW)
        for number in range(5 if FULL else 1):
            member.wait_for_batches(3)
            cache = str(tmp_path / f"host-{number}")  # as on another host, where the name is not known to be taken
            other = service.start("same", cache=cache, **SLOW)
            member.ends(1)
            service.recovered("a second process takes over the transactional id", time.monotonic(), other)
            member = other
    assert service.log.read_text().count("two members have one name") == (5 if FULL else 1)
    service.finish(member)
    service.judge()
