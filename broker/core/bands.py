"""The surveys' bands: names in the order of the columns, and central wavelengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from broker.core.batch import Floats


@dataclass(frozen=True, slots=True)
class Survey:
    """A survey's bands.

    Attributes
    ----------
    name : str
    bands : tuple of str, (B,)
        The index into it is the band code of every column.
    wavelengths : tuple of float, (B,)
        Central wavelengths, Å.
    """

    name: str
    bands: tuple[str, ...]
    wavelengths: tuple[float, ...]

    @property
    def wavelengths_aa(self) -> Floats:
        """Central wavelengths (B,), Å."""
        return np.array(self.wavelengths)


# The values of the field's GP work (Boone 2019, Allam & McEwen 2021).
SURVEYS = {
    "ztf": Survey("ztf", ("g", "r", "i"), (4804.79, 6436.92, 7968.22)),
    "lsst": Survey("lsst", ("u", "g", "r", "i", "z", "y"), (3685.0, 4802.0, 6231.0, 7542.0, 8690.0, 9736.0)),
}
