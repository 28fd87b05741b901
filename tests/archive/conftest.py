"""Small archives of every kind."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cramjam
import fastavro
import pytest

from broker.deliver.container import varint

SCHEMA = {
    "type": "record",
    "name": "small",
    "fields": [{"name": "n", "type": "long"}, {"name": "text", "type": ["null", "string"]}],
}


def container(numbers: Sequence[int], codec: str = "null", per_block: int = 3) -> bytes:
    """Return an Avro container with one record per number, a few in each block."""
    if codec == "zstandard":  # which fastavro writes only with a further library
        return _zstandard(numbers, per_block)
    out = io.BytesIO()
    writer = fastavro.write.Writer(out, fastavro.parse_schema(SCHEMA), codec=codec)
    for index, number in enumerate(numbers, 1):
        writer.write({"n": number, "text": "x" * 40})
        if index % per_block == 0:
            writer.flush()
    writer.flush()
    return out.getvalue()


def _zstandard(numbers: Sequence[int], per_block: int) -> bytes:
    head = container([]).replace(b"\x08null", b"\x12zstandard", 1)
    blocks = []
    for begin in range(0, len(numbers), per_block):
        part, body = numbers[begin : begin + per_block], io.BytesIO()
        for number in part:
            fastavro.schemaless_writer(body, fastavro.parse_schema(SCHEMA), {"n": number, "text": "x" * 40})
        packed = bytes(cramjam.zstd.compress(body.getvalue()))
        blocks += [varint(len(part)), varint(len(packed)), packed, head[-16:]]
    return head + b"".join(blocks)


def numbers_of(packet: bytes) -> list[int]:
    """Return what is in a container; one that is packed by zstandard must have one record."""
    if b"zstandard" in packet[:40]:
        start = packet.index(packet[-16:]) + 16
        frame = packet.index(b"\x28\xb5\x2f\xfd", start)  # zstandard's magic number, after count and size
        body = io.BytesIO(bytes(cramjam.zstd.decompress(packet[frame:-16])))
        return [fastavro.schemaless_reader(body, fastavro.parse_schema(SCHEMA))["n"]]
    return [record["n"] for record in fastavro.reader(io.BytesIO(packet))]


@pytest.fixture
def make_tar(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a tar archive of the given members and gives its path."""

    def make(
        values: Sequence[bytes], name: str = "ztf_public_20260101.tar.gz", form: int = tarfile.USTAR_FORMAT
    ) -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w", format=form) as archive:
            folder = tarfile.TarInfo("night")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            for number, value in enumerate(values):
                info = tarfile.TarInfo(f"{number}.avro")
                info.size = len(value)
                archive.addfile(info, io.BytesIO(value))
            link = tarfile.TarInfo("link.avro")
            link.type, link.linkname, link.size = tarfile.SYMTYPE, "0.avro", 0
            archive.addfile(link)
        return path

    return make


@pytest.fixture
def real_alerts() -> Path:
    """Return the folder of real packets."""
    root = os.environ.get("TOCSIN_TEST_DATA")
    if not root:
        pytest.skip("TOCSIN_TEST_DATA is not set: no real packets")
    return Path(root) / "alerts"
