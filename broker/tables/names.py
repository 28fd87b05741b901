"""What the columns of a table of light curves are called: our names, the common others, and the user's own mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.core.bands import SURVEYS
from broker.core.errors import TocsinError

ALIASES: dict[str, tuple[str, ...]] = {
    "obj": ("obj", "object_id", "objectid", "obj_id", "objid", "oid", "diaobjectid", "ztfname", "snid", "name"),
    "mjd": ("mjd", "midpointmjdtai", "mjd_tai", "hmjd"),
    "jd": ("jd",),
    "band": ("band", "filter", "passband", "fid", "filt", "filtercode", "filtername"),
    "flux": ("flux", "psfflux", "forcediffimflux"),
    "flux_err": (
        "flux_err",
        "fluxerr",
        "flux_error",
        "e_flux",
        "flux_unc",
        "dflux",
        "psffluxerr",
        "forcediffimfluxunc",
    ),
    "mag": ("mag", "magpsf", "magnitude", "psfmag"),
    "mag_err": ("mag_err", "magerr", "mag_error", "sigmapsf", "e_mag", "e_magnitude", "dmag", "psfmagerr"),
    "detected": ("detected", "det", "detected_bool", "is_detected"),
    "limit": ("limit", "diffmaglim", "limiting_mag", "maglim", "limmag"),
    "sign": ("isdiffpos",),
    "zp": ("zp", "zeropoint", "zero_point", "magzpsci", "magzp", "zpdiff"),
    "z_host": ("z_host", "host_z", "hostgal_photoz", "photoz", "redshift", "z"),
    "z_host_err": ("z_host_err", "host_z_err", "hostgal_photoz_err", "photoz_err", "redshift_err", "z_err"),
}
"""Quantity to the names that are understood, in any case of letters; ours first."""

OF_CURVES = ("obj", "mjd", "jd", "band", "flux", "flux_err", "mag", "mag_err", "detected", "limit", "sign", "zp")
OF_OBJECTS = ("obj", "z_host", "z_host_err")
_MEANT = {
    "mjd": "a time",
    "band": "a band",
    "flux_err": "the error of the flux",
    "mag_err": "the error of the magnitude",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column holds which quantity.

    Attributes
    ----------
    columns : dict of str to str
        Quantity to the table's own name.
    ignored : tuple of str
        Columns that are not read.
    """

    columns: Mapping[str, str]
    ignored: tuple[str, ...]

    def __contains__(self, quantity: str) -> bool:
        return quantity in self.columns


def of_curves(
    header: Sequence[str],
    mapping: Mapping[str, str],
    *,
    time: str = "mjd",
    zp: str | None = None,
    constant_zp: bool = False,
) -> Layout:
    """Return the layout of a table of light curves.

    Parameters
    ----------
    header : sequence of str
    mapping : mapping of str to str
        The user's own: quantity to column.
    time : {"mjd", "jd"}
        What the column of times holds.
    zp : str, optional
        The column of zero points.
    constant_zp : bool
        The zero point is given as a number: a column of that name is not read.

    Raises
    ------
    TocsinError
        A column is missing, or two could be meant; the text says what to do.
    """
    found = _found(header, mapping, OF_CURVES)
    if time == "jd":
        found["mjd"] = mapping.get("mjd") or found.get("jd") or found.get("mjd") or ""
    elif "mjd" not in found and "jd" in found:
        raise TocsinError(f"the times are in a column {found['jd']!r}: say --time jd")
    found.pop("jd", None)
    if zp is not None:
        found["zp"] = _there(zp, header, "--zp")
    _needed({name: column for name, column in found.items() if column}, ("obj", "mjd", "band"), header)
    if "flux" not in found and "mag" not in found:
        raise TocsinError(f"no column of flux or mag is known among {_list(header)}: name it, --columns flux=...")
    fluxes = "flux" in found and not ("mag" in mapping and "flux" not in mapping)
    if fluxes and "flux_err" not in found and {"mag", "mag_err"} <= set(found):
        fluxes = "flux" in mapping
    unused = ("mag", "mag_err", "sign") if fluxes else ("flux", "flux_err", "zp")
    kept = {name: column for name, column in found.items() if name not in unused}
    _needed(kept, ("flux_err",) if "flux" in kept else ("mag_err",), header)
    if constant_zp:
        kept.pop("zp", None)
    elif "zp" in kept and zp is None:
        raise TocsinError(
            f"the table has a column {kept['zp']!r}: say --zp {kept['zp']} to use it, or give the zero point as a "
            "number (--zp 31.4 for nJy)"
        )
    return Layout(kept, tuple(name for name in header if name not in kept.values()))


def of_objects(header: Sequence[str], mapping: Mapping[str, str]) -> Layout:
    """Return the layout of the table of objects.

    Raises
    ------
    TocsinError
        There are no objects or no redshifts in it.
    """
    found = _found(header, {key: column for key, column in mapping.items() if column in header}, OF_OBJECTS)
    _needed(found, ("obj", "z_host"), header)
    return Layout(found, tuple(name for name in header if name not in found.values()))


def mapping_of(text: str) -> dict[str, str]:
    """Return ``obj=oid,mjd=hmjd`` as a mapping of quantity to column.

    Raises
    ------
    TocsinError
        It is not of that form, or a quantity is not one of ours.
    """
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column or name not in ALIASES or name == "jd":
            known = ", ".join(name for name in ALIASES if name != "jd")
            raise TocsinError(f"--columns {part!r} is not NAME=COLUMN with a NAME of {known}")
        found[name] = column
    return found


def band_codes(survey: str) -> dict[str, int]:
    """Return what a survey's bands may be called, and their index: ``r``, ``ztfr``, ``ZTF_r``, ``zr``, ``2``."""
    bands = SURVEYS[survey].bands
    names: dict[str, int] = {}
    for code, band in enumerate(bands):
        for prefix in (survey, survey.upper(), *(("z",) if survey == "ztf" else ("LSSTCam",))):
            names |= {f"{prefix}{join}{band}": code for join in ("", "_", "-", ".", ":")}
        names |= {band: code, str(code + (survey == "ztf")): code}  # ZTF's fid counts from 1, PLAsTiCC's from 0
    return names | ({"Y": bands.index("y")} if "y" in bands else {})


def _found(header: Sequence[str], mapping: Mapping[str, str], quantities: Sequence[str]) -> dict[str, str]:
    taken = {_there(column, header, f"--columns {name}=") for name, column in mapping.items()}
    found = {name: column for name, column in mapping.items() if name in quantities}
    for quantity in quantities:
        if quantity in found:
            continue
        exact = [name for name in header if name == quantity]
        others = [name for name in header if name.lower() in ALIASES[quantity] and name not in taken]
        candidates = exact or others
        if len(candidates) > 1:
            raise TocsinError(f"{' and '.join(candidates)} could both be {quantity}: say --columns {quantity}=...")
        if candidates:
            found[quantity] = candidates[0]
    return found


def _there(column: str, header: Sequence[str], option: str) -> str:
    if header.count(column) != 1:
        what = "no column" if column not in header else "more than one column"
        given = f"{option}{column}" if option.endswith("=") else f"{option} {column}"
        raise TocsinError(f"{given}: the table has {what} of that name; it has {_list(header)}")
    return column


def _needed(found: Mapping[str, str], quantities: Sequence[str], header: Sequence[str]) -> None:
    for quantity in quantities:
        if quantity not in found:
            meant = _MEANT.get(quantity, quantity)
            raise TocsinError(
                f"no column of {meant} is known among {_list(header)}: rename it to {quantity}, or say "
                f"--columns {quantity}=YOUR_NAME (understood: {', '.join(ALIASES[quantity])})"
            )


def _list(header: Sequence[str]) -> str:
    return ", ".join(header[:30]) + (", ..." if len(header) > 30 else "") if header else "(none)"
