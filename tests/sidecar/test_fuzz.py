"""Thousands of damaged products: each has exactly one end, the sound ones among them are unhurt, nothing crashes."""

import random

from broker.core.reasons import Dead, Outcome
from broker.deliver.loop import _check
from broker.deliver.types import Intake
from broker.sidecar.write import product_message
from tests.sidecar.rows import galaxies, raw, sidecar
from tests.sidecar.test_read import BAD, contained, example
from tests.sidecar.test_read import SCHEMA as PRODUCT

SEED, DAMAGED, SIZE = 20261123, 4000, 50
REASONS = {str(reason) for reason in Dead} - {"internal"}
SMALL = [packet for packet, _, _ in BAD.values() if len(packet) < 10_000]


def damaged(chance: random.Random) -> bytes:
    """Return a product with a few bytes changed, cut, doubled or replaced by a number that means a lot to Avro."""
    sound = product_message(example(chance.randint(1, 3)))
    packet = bytearray(chance.choice([sound, contained(PRODUCT.text, [sound[5:]]), *SMALL]) or sound)
    for _ in range(chance.randint(1, 4)):
        at, how = chance.randrange(len(packet) or 1), chance.randrange(5)
        if how == 0:
            packet[at : at + 1] = bytes([chance.randrange(256)])
        elif how == 1:
            del packet[at : at + chance.randint(1, 20)]
        elif how == 2:
            packet[at:at] = packet[at : at + chance.randint(1, 40)]
        elif how == 3:
            packet[at : at + 1] = chance.choice(
                [b"\xff" * 9 + b"\x01", b"\xfe\xff\xff\xff\x0f", b"\x01", b"\0", b"\x80"]
            )
        else:
            packet[at : at + 4] = chance.randbytes(4)
    return bytes(packet)


def test_every_damaged_product_has_one_end() -> None:
    chance, step = random.Random(SEED), sidecar()
    good, ended = product_message(galaxies(0, 1)), {outcome: 0 for outcome in Outcome}
    for _ in range(DAMAGED // SIZE):
        batch = raw([good, *(damaged(chance) for _ in range(SIZE)), good])
        outcomes = step(batch)
        _check(Intake(batch), outcomes, frozenset({"t.results"}))
        assert outcomes.code[[0, -1]].tolist() == [Outcome.SCORED] * 2
        assert {letter.reason for letter in outcomes.dead} <= REASONS
        for code in outcomes.code[1:-1].tolist():
            ended[Outcome(code)] += 1
    assert sum(ended.values()) == DAMAGED
    assert ended[Outcome.DEAD_LETTERED] > DAMAGED // 2
    assert ended[Outcome.UNSCORED] > 0, "what was damaged in its values alone is still a product"
