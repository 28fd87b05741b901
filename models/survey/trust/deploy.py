"""x-deploy: a catalogue through ``tocsin sidecar`` that is killed by SIGKILL while it works, beside a plain loop."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from broker.core.errors import TocsinError
from broker.deliver.files import MANIFEST
from broker.models.survey import bench, registry
from broker.models.survey.row import Columns, Finding

ROW_OF_IT, VARIANT = "subhalo-nn", "sim"
ROWS, BLOCK, KILLS = 60_000, 500, 4
PATIENCE_S = 120.0


def show(seed: int, data: Path | None) -> tuple[list[Finding], str]:
    """Kill a sidecar `KILLS` times at random moments; count each record's answers. ``data`` is not read."""
    row, variant = registry.find(f"{ROW_OF_IT}@{VARIANT}")
    columns = bench.fresh(row, variant, seed, ROWS).columns
    with tempfile.TemporaryDirectory() as folder:
        catalogue, out = Path(folder) / "catalogue.csv", Path(folder) / "out"
        _write(catalogue, columns)
        kills = _killed_and_finished(catalogue, out, random.Random(seed))
        ours = Counter(_ids(out))
    theirs = Counter(_plain_loop(ROWS, BLOCK, random.Random(seed)))
    findings = [
        _finding("records lost", _lost(ours), _lost(theirs)),
        _finding("records answered twice", _doubled(ours), _doubled(theirs)),
    ]
    said = (
        f"{ROWS:,} records of {ROW_OF_IT} in files, {kills} times SIGKILL while it worked. Without: a loop that writes "
        "a block's answers and then notes that it did, stopped as often between the two."
    )
    return findings, said


def _finding(metric: str, model: int, baseline: int) -> Finding:
    return Finding(metric, "", "less", model, baseline, (model, model))


def _lost(counted: Counter[str]) -> int:
    return ROWS - len(counted)


def _doubled(counted: Counter[str]) -> int:
    return sum(n > 1 for n in counted.values())


def _write(path: Path, columns: Columns) -> None:
    names = list(columns)
    rows = np.column_stack([np.arange(ROWS), *columns.values()])
    np.savetxt(
        path, rows, delimiter=",", header=",".join(["id", *names]), comments="", fmt=["%d"] + ["%.6g"] * len(names)
    )


def _killed_and_finished(catalogue: Path, out: Path, chance: random.Random) -> int:
    """Run the sidecar until it is done; return how often it was killed."""
    kills = 0
    while True:
        process = _start(catalogue, out)
        blocks = _blocks(out) + chance.randint(2, ROWS // BLOCK // (KILLS + 2))
        if kills < KILLS and _worked(process, out, blocks):
            process.send_signal(signal.SIGKILL)
            kills += 1
        code = process.wait(PATIENCE_S)
        if code == 0:
            return kills
        if code != -signal.SIGKILL:
            raise TocsinError(f"the sidecar of {ROW_OF_IT}@{VARIANT} ends with {code}: does it run by hand?")


def _start(catalogue: Path, out: Path) -> subprocess.Popen[bytes]:
    call = "from broker.cli.main import main; main()"
    arguments = [
        "sidecar",
        f"{ROW_OF_IT}@{VARIANT}",
        "--input",
        str(catalogue),
        "--out",
        str(out),
        "--block",
        str(BLOCK),
    ]
    command = [sys.executable, "-c", call, *arguments]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "TOCSIN_BATCH__MAX_ALERTS": "1"}  # a commit per block
    return subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _worked(process: subprocess.Popen[bytes], out: Path, blocks: int) -> bool:
    """Wait until so many batches are committed; tell whether the process still works then."""
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        if _blocks(out) >= blocks:
            return process.poll() is None
        time.sleep(0.002)
    return False


def _blocks(out: Path) -> int:
    manifest = out / MANIFEST
    return manifest.read_bytes().count(b"\n") if manifest.exists() else 0


def _ids(out: Path) -> list[str]:
    """Return the ids of all records in the committed results."""
    from broker.deliver.outputs import DirectoryOutputs

    return [str(name) for result in DirectoryOutputs(out).annotations() for name in result["records"]]


def _plain_loop(rows: int, block: int, chance: random.Random) -> list[str]:
    """Return what a loop writes that notes its progress after each block and is stopped before some of the notes."""
    written: list[str] = []
    noted = 0
    stops = set(chance.sample(range(rows // block), KILLS))
    while noted < rows:
        at = noted // block
        written += [str(i) for i in range(noted, noted + block)]
        if at in stops:  # between the two
            stops.remove(at)
            continue
        noted += block
    return written
