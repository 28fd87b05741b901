"""The files backend: what a kill leaves behind, who may write, and that others can read it."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from broker.core.batch import FilePacket
from broker.core.errors import Stop, TocsinError
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.deliver import files
from broker.deliver.container import container, varint
from broker.deliver.files import MANIFEST, FileSink, FileSource, done_in, read_manifest
from broker.deliver.loop import Totals, run
from broker.deliver.outputs import DirectoryOutputs
from broker.deliver.recount import recount_directory
from broker.deliver.types import Bounds

from .fakes import FakeStep, file_packets, packet, primary

TOPICS = Topics("t")


def replay(directory: Path, count: int = 100, **options: int) -> Totals:
    sink = FileSink(directory, primary=primary(TOPICS))
    packets = file_packets(Path("/in"), count)
    bounds = Bounds(max_alerts=options.get("batch", 20))
    return run(FileSource(packets), FakeStep(TOPICS), sink, metrics=Recorded(), primary=primary(TOPICS), bounds=bounds)


def test_fastavro_reads_what_we_concatenated(tmp_path: Path) -> None:
    replay(tmp_path)
    annotations = read(tmp_path / "annotations")
    assert sorted(record["alertId"] for record in annotations) == [n for n in range(100) if n % 8 in (0, 1, 2, 3, 4, 6)]
    dead = read(tmp_path / "dead_letters")
    assert [record["packet"] for record in dead] == [packet(n) for n in range(100) if n % 8 == 7]


def read(folder: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.avro")):
        with path.open("rb") as file:
            records += [record for record in fastavro.reader(file) if isinstance(record, dict)]
    return records


@pytest.mark.parametrize("number", [0, 1, -1, 63, 64, -64, -65, 2**31, -(2**63), 2**63 - 1])
def test_varint_is_avros(number: int) -> None:
    out = BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    assert varint(number) == out.getvalue()


def test_an_empty_container_is_readable() -> None:
    assert list(fastavro.reader(BytesIO(container('"long"', [], "x")))) == []


def test_a_torn_last_line_and_orphan_segments_are_removed(tmp_path: Path) -> None:
    replay(tmp_path)
    before = recount_directory(tmp_path)
    manifest = tmp_path / MANIFEST
    whole = manifest.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    manifest.write_bytes(whole[: -len(last) // 2])  # torn in the middle of the last line
    (tmp_path / "annotations" / "00000099-annotation-1.0.avro").write_bytes(b"orphan")
    (tmp_path / "dead_letters" / "00000099-deadletter-1.0.avro.tmp").write_bytes(b"half")
    assert recount_directory(tmp_path)["received"] == 80
    assert replay(tmp_path).received == 20
    assert recount_directory(tmp_path) == before
    assert len(list((tmp_path / "annotations").iterdir())) == len(list(read_manifest(tmp_path))) == 5
    assert not list(tmp_path.glob("*/*.tmp"))


def test_damage_before_the_last_line_is_an_error(tmp_path: Path) -> None:
    replay(tmp_path)
    manifest = tmp_path / MANIFEST
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join([lines[0], b"{half\n", *lines[2:]]))
    with pytest.raises(TocsinError, match=r"line 2 of .*manifest.jsonl is damaged"):
        replay(tmp_path)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first = FileSink(tmp_path, primary=primary(TOPICS))
    first.open()
    with pytest.raises(TocsinError, match="another process writes to"):
        replay(tmp_path)
    first.close()
    assert replay(tmp_path).received == 100


def test_a_directory_without_a_manifest_has_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match="has no manifest"):
        recount_directory(tmp_path)


@pytest.mark.parametrize("form", ["avro", "parquet"])
@pytest.mark.parametrize(("left", "told"), [(-1, "is not there, and manifest"), (0, "is damaged"), (20, "is damaged")])
def test_a_file_of_outputs_that_is_lost_or_damaged_is_named(left: int, told: str, form: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    lost = tmp_path / "annotations" / f"00000000-annotation-1.1.{form}"
    if left >= 0:
        lost.write_bytes(b"Obj\x01".ljust(left, b"\2")[:left])
    (tmp_path / MANIFEST).write_text(json.dumps({"ledger": {}, "segments": [f"annotations/{lost.name}"]}) + "\n")
    with pytest.raises(TocsinError, match=f"^{lost} {told}"):
        list(DirectoryOutputs(tmp_path).annotations())


def test_a_disk_that_refuses_stops_and_the_next_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write = files._write_synced

    def full_at_the_fifth(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(files, "_write_synced", full_at_the_fifth)
    with pytest.raises(Stop, match="No space left on device; run again and nothing is lost"):
        replay(tmp_path)
    assert recount_directory(tmp_path)["received"] == 40
    assert replay(tmp_path).received == 60
    assert recount_directory(tmp_path)["balanced"]


def test_progress_is_merged_into_ranges() -> None:
    sources = [{"topic": "/a", "partition": 0, "first": n, "last": n + 9} for n in range(0, 100, 10)]
    assert done_in([{"sources": [source]} for source in sources]) == {("/a", 0): [(0, 99)]}


def test_a_large_packet_is_held_for_the_next_batch(tmp_path: Path) -> None:
    packets = [FilePacket("/in", n, packet(n, 1000)) for n in range(5)]
    source = FileSource(packets)
    source.open({})
    sizes = []
    while (intake := source.read(Bounds(max_bytes=2500))) is not None:
        sizes.append(len(intake.batch))
    assert sizes == [2, 2, 1]
    assert source.exhausted


def test_a_batch_that_is_committed_in_parts_gives_back_what_is_left() -> None:
    source = FileSource(file_packets(Path("/in"), 10))
    source.open({})
    intake = source.read(Bounds())
    assert intake is not None
    source.committed(intake.part(0, 4))
    source.rewind()
    again = source.read(Bounds())
    assert again is not None
    assert again.batch.values == intake.batch.values[4:]
    source.committed(again.part(0, 5))
    source.committed(again.part(5, 6))
    source.rewind()
    assert source.read(Bounds()) is None
