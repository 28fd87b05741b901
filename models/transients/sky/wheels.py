"""Packages whose data files training reads: downloaded with pip into a cache, believed only with the right hash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from broker.core.errors import TocsinError


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file on PyPI.

    Attributes
    ----------
    package, version, file, sha256 : str
    megabytes : int
        Of the download.
    """

    package: str
    version: str
    file: str
    sha256: str
    megabytes: int


SALT3 = Wheel(
    "jax-bandflux",
    "1.0.0",
    "jax_bandflux-1.0.0-py3-none-any.whl",
    "a14c2876d4ab4d1418e55c67fc242199336ef46174dcfda29210cc270623bb13",
    16,
)
"""MIT; holds the files of SALT3-F22 (Kenworthy et al. 2021; Taylor et al. 2023), which alone are read."""
POINTINGS = Wheel(
    "redback",
    "1.20.0",
    "redback-1.20.0-py3-none-any.whl",
    "28714f978a4627167dbf5d7073872d908b6942fcfb2dbfbbf57729d7b88c5a94",
    91,
)
"""GPL-3; its table of ZTF's pointings is read to make `seasons.json`, nothing of it is imported or kept."""


def fetch(wheel: Wheel, cache: Path) -> Path:
    """Return the wheel in ``cache``, downloaded with pip on first use.

    Raises
    ------
    TocsinError
        pip cannot download it, or what came is not the file that we know.
    """
    path = cache / wheel.file
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", str(cache)]
        wanted = f"{wheel.package}=={wheel.version}"
        result = subprocess.run([*command, wanted], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise TocsinError(f"cannot download {wanted} ({wheel.megabytes} MB): {result.stderr.strip()[-300:]}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise TocsinError(f"{path} has the SHA-256 {digest}, expected {wheel.sha256}: delete it and try again")
    return path
