"""What only some alerts are asked for: the columns of a catalogue in the packet, and its stamps."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import nan

import numpy as np
from numpy.typing import NDArray


class NotSent(StrEnum):
    """Why an alert that was chosen has no product; the alert itself is unhurt."""

    NO_HOST = "no_host"  # no galaxy is near, or the detection lies on a star
    NO_COLUMNS = "no_columns"  # the packet has no such columns, or all are null
    NO_STAMPS = "no_stamps"  # the packet comes without stamps
    BAD_STAMP = "bad_stamp"  # a stamp cannot be read, or is not as large as the others
    BAD_PACKET = "bad_packet"  # the fields are there, and of types that we do not read


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is nothing; ``text`` is a clause for the log."""

    reason: NotSent
    text: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """One row of a catalogue.

    Attributes
    ----------
    record : str
        The catalogue's own id of the source.
    units : dict of str to str
        By the name of the column, as astropy writes units.
    values : dict of str to float
        By the name of the column; NaN where missing.
    """

    record: str
    units: dict[str, str]
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Images:
    """The stamps of one alert.

    Attributes
    ----------
    names : tuple of str, (k,)
        Of the images: science, template, difference.
    pixels : (k, height, width) float32
        NaN where a survey has no pixel.
    unit : str
        Of the pixels.
    pixel_scale_arcsec, psf_fwhm_arcsec : float
        Size of a pixel; width of the science image's PSF, NaN where the packet does not say.
    zero_point : float
        AB magnitude of one unit of flux; NaN where unknown.
    """

    names: tuple[str, ...]
    pixels: NDArray[np.float32]
    unit: str
    pixel_scale_arcsec: float
    psf_fwhm_arcsec: float = nan
    zero_point: float = nan


@dataclass(frozen=True, slots=True)
class Details:
    """What one packet holds beside its light curve; a part that nobody asked for is missing.

    Attributes
    ----------
    catalog : Columns or Missing
    cutout : Images or Missing
    """

    catalog: Columns | Missing = field(default_factory=lambda: Missing(NotSent.NO_COLUMNS))
    cutout: Images | Missing = field(default_factory=lambda: Missing(NotSent.NO_STAMPS))
