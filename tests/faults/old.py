"""Version 0.1.0 beside the one at hand: a wheel of its last commit, in an environment that borrows what is heavy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.1.0"


@dataclass(frozen=True)
class Old:
    """Where the old version's programs are, and the folder of its tests."""

    binaries: Path
    tests: Path

    @property
    def python(self) -> str:
        return str(self.binaries / "python")

    @property
    def tocsin(self) -> str:
        return str(self.binaries / "tocsin")


def last_commit(version: str) -> str:
    """Return the last commit of ``version``: the parent of the one that changed it. Skip where history is cut off."""
    changed = _call("git", "log", "-1", "--format=%H", "-S", f'version = "{version}"', "--", "pyproject.toml", cwd=ROOT)
    commit = f"{changed.strip()}^"
    shown = subprocess.run(
        ["git", "show", f"{commit}:pyproject.toml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if not changed.strip() or not re.search(rf'^version = "{re.escape(version)}"$', shown.stdout, re.MULTILINE):
        pytest.skip(f"this checkout has no history that goes back to version {version}: git fetch --unshallow")
    return _call("git", "rev-parse", commit, cwd=ROOT).strip()


def install(folder: Path) -> Old:
    """Build the old version's wheel and install it, alone, in ``folder``."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: version 0.1.0 cannot be built")
    source, environment = folder / "source", folder / "venv"
    source.mkdir()
    archive = folder / "source.tar"
    _call("git", "archive", "-o", str(archive), last_commit(VERSION), cwd=ROOT)
    _call("tar", "xf", str(archive), "-C", str(source), cwd=folder)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _call(*pip, "wheel", "--no-deps", "-w", str(folder), str(source), cwd=folder)
    venv.create(environment, symlinks=True)
    (wheel,) = folder.glob("tocsin-*.whl")
    _call(*pip, "--python", str(environment / "bin" / "python"), "install", "--no-deps", str(wheel), cwd=folder)
    paths = sysconfig.get_paths(vars={"base": str(environment), "platbase": str(environment)})
    (Path(paths["purelib"]) / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    alone = folder / "tests"  # without broker/ beside it: what runs is what is installed
    alone.mkdir()
    (source / "tests").rename(alone / "tests")
    old = Old(environment / "bin", alone)
    probe = "import broker; print(broker.__version__, broker.__file__)"
    found = _call(old.python, "-c", probe, cwd=alone).split()
    assert found[0] == VERSION
    assert found[1].startswith(str(environment))
    return old


def _call(*command: str, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
