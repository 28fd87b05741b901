"""The service's clock is set back and forward while it runs: nothing stalls, no latency is negative."""

from __future__ import annotations

import time

import pytest

from .clock import HOUR_S, Clock
from .service import FULL, Service, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def test_set_back_and_forward(service: Service, clock: Clock) -> None:
    member = service.start(pause_s=0.02, batch=20, environ=clock.environ)
    with service.feeding():
        for _ in range(3 if FULL else 1):
            for hours in (-1, 1, 2, -2):
                member.wait_for_batches(3, since=time.monotonic())
                clock.shift(hours * HOUR_S)
                service.recovered(f"the service's clock set by {hours:+} h", time.monotonic(), member)
                member.wait_for_batches(10, since=time.monotonic())
    service.finish(member)
    service.judge()


def test_set_back_while_nothing_comes(service: Service, clock: Clock) -> None:
    """The client library waits by the wall clock: what comes must wake it, and so must a request to stop."""
    member = service.start(environ=clock.environ)
    for _ in range(3 if FULL else 1):
        service.feed(100)
        wait_until(lambda: not service.lag(), "all to be delivered")
        clock.shift(-HOUR_S)
        time.sleep(4.0)  # longer than the session lasts
        fed = time.monotonic()
        service.feed(100)
        service.recovered("the clock set back an hour while nothing came", fed, member)
    service.finish(member)
    service.judge()


def test_stopped_after_the_clock_was_set_back(service: Service, clock: Clock) -> None:
    service.feed(100)
    member = service.start(environ=clock.environ)
    wait_until(lambda: not service.lag(), "all to be delivered")
    clock.shift(-HOUR_S)
    time.sleep(2.0)
    asked = time.monotonic()
    member.leave()
    assert time.monotonic() - asked < 15
    service.judge()
