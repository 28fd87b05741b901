from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from broker.models.transients import examples, raw
from broker.models.transients.data import Labelled
from broker.score import epochs, features

MakeLabelled = Callable[..., Labelled]


def quiet(*_: object) -> None:
    return


def test_epochs_stand_beside_their_examples(labelled: MakeLabelled, tmp_path: Path) -> None:
    objects = labelled(14)
    made = examples.make("lsst", objects, 3, quiet)
    some = made.take(np.random.default_rng(0).permutation(len(made))[:40])
    for _ in range(2):  # made, then read
        with_epochs = raw.with_epochs(some, "lsst", objects, 3, tmp_path, quiet).tensors
    scale, _ = features.of_points(objects.curves, 6)
    values, mask = epochs.of_curves(objects.curves, 6, scale)
    whole = np.flatnonzero(some.version == examples.WHOLE)
    assert len(whole) > 0
    place = np.searchsorted(objects.object_id, some.object_id[whole])
    assert with_epochs.epochs is not None
    assert with_epochs.epochs_mask is not None
    np.testing.assert_array_equal(with_epochs.epochs[whole], values[place])
    np.testing.assert_array_equal(with_epochs.epochs_mask[whole], mask[place])
    # A packet of an alert ends with a detection: the last epoch is not before the first one.
    last = np.take_along_axis(with_epochs.epochs[..., -2], with_epochs.epochs_mask.sum(axis=1)[:, None] - 1, 1)
    assert (last >= 0).all()
    with pytest.raises(ValueError, match="of another seed"):
        raw.with_epochs(some, "lsst", labelled(7), 3, None, quiet)
