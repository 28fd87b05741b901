from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from broker.models.transients import perturb

B = 3


def batch(n: int = 400) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    epochs = np.zeros((n, 20, 3 * B + 2), np.float32)
    mask = np.arange(20) < rng.integers(1, 21, (n, 1))
    epochs[..., :B] = 1.0
    epochs[..., B : 2 * B] = -1.0
    epochs[..., 2 * B : 3 * B] = rng.integers(-1, 2, (n, 20, B))
    since = np.cumsum(rng.uniform(1, 9, (n, 20)), axis=1) - 20.0
    epochs[..., -2], epochs[:, 1:, -1] = since, np.diff(since, axis=1)
    epochs[~mask] = 0.0
    return epochs, mask


@pytest.mark.parametrize("step", ["truncate", "lose", "add_noise", "shift", "moss"])
def test_the_original_stays_and_nothing_is_invented(step: str) -> None:
    epochs, mask = batch()
    before = epochs.copy(), mask.copy()
    made, kept = getattr(perturb, step)(epochs, mask, np.random.default_rng(1))
    np.testing.assert_array_equal(epochs, before[0])
    np.testing.assert_array_equal(mask, before[1])
    assert made.dtype == np.float32
    assert not (kept & ~mask).any()
    assert kept.any(axis=1).all()
    assert not np.array_equal(made[mask], epochs[mask]) or not np.array_equal(kept, mask)
    again, _ = getattr(perturb, step)(epochs, mask, np.random.default_rng(1))
    np.testing.assert_array_equal(made, again)


def test_cuts_keep_the_beginning() -> None:
    epochs, mask = batch()
    _, kept = perturb.truncate(epochs, mask, np.random.default_rng(1))
    count = kept.sum(axis=1)
    np.testing.assert_array_equal(kept, mask & (np.arange(20) < count[:, None]))
    assert (count >= np.minimum(2, mask.sum(axis=1))).all()
    assert 0.3 < (count < mask.sum(axis=1))[mask.sum(axis=1) > 2].mean() < 0.5


def test_gaps_are_those_between_what_is_left() -> None:
    epochs, mask = batch(50)
    made, kept = perturb.lose(epochs, mask, np.random.default_rng(1))
    for row, there in zip(made, kept, strict=True):
        np.testing.assert_allclose(row[there][:, -1], np.diff(row[there][:, -2], prepend=row[there][0, -2]), atol=1e-4)


def test_noise_is_as_large_as_its_errors_say() -> None:
    epochs, mask = batch()
    made, _ = perturb.add_noise(epochs, mask, np.random.default_rng(1))
    measured = epochs[..., 2 * B : 3 * B] > 0
    extra = np.sqrt(10.0 ** (2 * made[..., B : 2 * B]) - 0.01)
    pull = (made[..., :B] - 1.0)[measured] / extra[measured]
    assert pull.std() == pytest.approx(1.0, abs=0.03)
    np.testing.assert_array_equal(
        made[..., : 2 * B][~np.tile(measured, 2)], epochs[..., : 2 * B][~np.tile(measured, 2)]
    )
