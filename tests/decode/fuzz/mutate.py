"""Inputs for the decoder by their number: the same seed and number give the same bytes (and so does every batch)."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.decode.fuzz import bodies, frames, schemas
from tests.decode.fuzz.seeds import Seed


@dataclass(frozen=True, slots=True)
class Input:
    """A mutated packet.

    Attributes
    ----------
    kind : str
        What was done to it: 'body.length', 'schema.swap', 'frame.sync', ...
    value : bytes
    seed : str
        Name of the seed.
    """

    kind: str
    value: bytes
    seed: str


def make(pick: random.Random, found: list[list[Seed]]) -> Input:
    """The next input: half are injured bodies, a twelfth injured schemas, the rest injured frames."""
    seed, part = pick.choice(found[pick.randrange(len(found))]), pick.random()
    if part < 0.5:
        hurt = pick.choice(bodies.ALL)
        return Input(f"body.{hurt.__name__}", frames.whole(seed.schema, hurt(pick, seed), seed.wire_id), seed.name)
    if part < 0.58:
        if pick.random() < 0.8:  # the smaller schemas: they compile in a tenth of the time
            seed = pick.choice(found[1 + pick.randrange(2)])
        change = pick.choice(schemas.ALL)
        schema, body = change(pick, seed)
        return Input(f"schema.{change.__name__}", frames.whole(schema, body), seed.name)
    frame = pick.choice(frames.ALL)
    return Input(f"frame.{frame.__name__}", frame(pick, seed), seed.name)


def batch(start: int, number: int, size: int, found: list[list[Seed]]) -> list[Input]:
    """Batch ``number`` of the run that starts from ``start``; every group of seeds is as likely."""
    pick = random.Random(f"{start}/{number}")
    return [make(pick, found) for _ in range(size)]
