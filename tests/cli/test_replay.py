"""A replay from the command line: idempotent, its inputs counted again, its limit on dead letters."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from broker.archive import simulate


def tocsin(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = str(Path(sys.executable).parent / "tocsin")
    return subprocess.run([command, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def ledger(cwd: Path) -> dict[str, Any]:
    done = tocsin("ledger", "out", "--json", "--verify-source", cwd=cwd)
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["balanced"] else 1)
    return found


def test_a_replay_twice_adds_nothing_and_misses_what_it_never_read(tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    for number, packet in enumerate(simulate.night("ztf", 8, 2)):
        (tmp_path / "night" / f"{number}.avro").write_bytes(packet.value)
    (tmp_path / "night" / "bad.avro").write_bytes(b"")
    first = tocsin("replay", "night", "--to", "out", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "9 packets in this run, 1 dead letters" in first.stdout
    found = ledger(tmp_path)
    assert (found["received"], found["dead_lettered"], found["balanced"]) == (9, {"empty": 1}, True)
    assert "0 packets in this run" in tocsin("replay", "night", "--to", "out", cwd=tmp_path).stdout
    assert ledger(tmp_path) == found
    (tmp_path / "night" / "late.avro").write_bytes(b"nonsense")
    assert ledger(tmp_path)["balanced"] is False


def test_dead_letters_stop_a_replay_only_where_a_limit_is_given(tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    for number in range(150):
        (tmp_path / "night" / f"{number}.avro").write_bytes(b"nonsense")
    stopped = tocsin("replay", "night", "--to", "limited", "--dlq-limit", "0.1", cwd=tmp_path)
    assert stopped.returncode == 1
    assert "bad_magic" in stopped.stderr
    assert tocsin("replay", "night", "--to", "out", cwd=tmp_path).returncode == 0
    assert ledger(tmp_path)["dead_lettered"] == {"bad_magic": 150}
