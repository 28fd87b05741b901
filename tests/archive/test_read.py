"""Every kind of file, and what is damaged: all packets that are there, none twice, none lost without a word."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.archive import read
from broker.core.errors import TocsinError
from tests.archive.conftest import container, numbers_of


def values(*paths: Path, limit: int = read.PACKET_LIMIT) -> list[bytes]:
    return [packet.value for packet in read.packets(paths, limit=limit)]


SINGLE = {
    "one": container([7]),
    "packed": container([7], "deflate"),
    "trailing": container([7]) + b"behind the end",
    "cut": container([7])[:-5],
    "wire": b"\0\0\0\3\x84body",
    "empty": b"",
    "magic": b"Obj",
    "noise": b"Obj\x01" + b"\xff" * 40,
    "text": b"not avro",
    "no record": container([]),
    "cut block": container([1, 2])[:-20],
}


@pytest.mark.parametrize("value", SINGLE.values(), ids=SINGLE.keys())
def test_a_single_packet_is_untouched(tmp_path: Path, value: bytes) -> None:
    path = tmp_path / "packet.avro"
    path.write_bytes(value)
    assert [(p.path, p.record, p.value) for p in read.packets([path])] == [(str(path), 0, value)]
    assert read.count([path]) == 1


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard"])
@pytest.mark.parametrize("per_block", [1, 3, 100])
def test_each_record_of_a_container_is_a_packet(tmp_path: Path, codec: str, per_block: int) -> None:
    path = tmp_path / "many.avro"
    path.write_bytes(container(range(10), codec, per_block))
    packets = list(read.packets([path]))
    assert [p.record for p in packets] == list(range(10))
    assert [numbers_of(p.value) for p in packets] == [[n] for n in range(10)]
    assert read.count([path]) == 10
    assert read.estimate([path]) in range(5, 21)


def test_a_damaged_container_ends_as_one_last_packet(tmp_path: Path) -> None:
    whole = container(range(10), per_block=2)
    path = tmp_path / "many.avro"
    damaged = bytearray(whole)
    damaged[whole.rindex(whole[-16:], 0, -16) + 16 :] = b"\4\2damaged"  # the last block, after four good ones
    path.write_bytes(damaged)
    packets = values(path)
    assert [numbers_of(p) for p in packets[:8]] == [[n] for n in range(8)]
    assert len(packets) == 9
    assert packets[8].endswith(b"\4\2damaged")
    assert read.count([path]) == 9


@pytest.mark.parametrize("limit", [read.PACKET_LIMIT, 500])
@pytest.mark.parametrize("damage", [b"junk", b"junk" * 300, b"\4\xff\xff\xff\x0f"])
def test_a_damaged_block_takes_no_other_with_it(tmp_path: Path, limit: int, damage: bytes) -> None:
    data = container(range(40), per_block=2)
    sync = data[-16:]
    blocks = data.split(sync)
    blocks[6] = damage + blocks[6]
    path = tmp_path / "many.avro"
    path.write_bytes(sync.join(blocks))
    packets = values(path, limit=limit)
    good = [numbers_of(packet) for packet in packets if damage[:4] not in packet]
    assert good == [[n] for n in range(40) if n not in (10, 11)]
    assert len(packets) == 39


def test_a_packet_in_gzip_is_untouched_and_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "packet.avro.gz"
    path.write_bytes(gzip.compress(container([7])))
    assert values(path) == [path.read_bytes()]
    assert read.count([path]) == 1


def test_directories_are_sorted_and_links_do_not_go_round(tmp_path: Path) -> None:
    for name in ("b.avro", "a/z.avro", "a/y.bin", "c/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "a/round").symlink_to(tmp_path)
    (tmp_path / "linked.avro").symlink_to(tmp_path / "b.avro")
    (tmp_path / "nowhere.avro").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    names = [Path(p.path).relative_to(tmp_path).as_posix() for p in read.packets([tmp_path])]
    assert names == ["a/y.bin", "a/z.avro", "b.avro", "c/.hidden", "linked.avro"]
    assert read.count([tmp_path]) == 5
    assert len(values(tmp_path, tmp_path / "b.avro", tmp_path / "a")) == 5  # named twice, read once


def test_an_empty_directory_and_a_missing_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert values(tmp_path) == []
    with pytest.raises(TocsinError, match=r"there is no .*gone"):
        values(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TocsinError, match="neither a file nor a directory"):
        values(tmp_path / "pipe")
    (tmp_path / "x").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert [p.path for p in read.packets([Path("x")])] == [str(tmp_path / "x")]


def test_a_huge_file_is_cut_at_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "huge.avro"
    with path.open("wb") as file:
        file.write(b"\0\0\0\3\x84")
        file.truncate(2 << 30)
    tracemalloc.start()
    (value,) = values(path, limit=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(value) == 1_000_001
    assert peak < 5_000_000


def test_a_huge_container_is_read_block_by_block(tmp_path: Path) -> None:
    path = tmp_path / "large.avro"
    header, blocks = container([]), container([1, 2], per_block=2)
    with path.open("wb") as file:
        file.write(header)
        sync, block = header[-16:], blocks[len(header) : -16]
        for _ in range(2000):
            file.write(block + sync)
    assert path.stat().st_size > 200_000
    tracemalloc.start()
    assert sum(1 for _ in read.packets([path], limit=50_000)) == 4000
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["ztf_public_20260101.tar.gz", "night.tgz", "night.tar", "anything"])
def test_members_of_a_tarball_in_their_order(make_tar: Callable[..., Path], name: str) -> None:
    members = [container([n]) for n in range(5)] + [b"", b"bad", container([1, 2, 3])]
    path = make_tar(members, name)
    assert [(p.path, p.record, p.value) for p in read.packets([path])] == [
        (str(path), n, value) for n, value in enumerate(members)
    ]
    assert read.count([path]) == len(members)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["night.tar.gz", "night.tar"])
def test_a_cut_tarball_gives_what_is_before_and_then_says_so(
    make_tar: Callable[..., Path], name: str, cut: float
) -> None:
    members = [os.urandom(3000) for _ in range(40)]
    path = make_tar(members, name)
    data = path.read_bytes()
    size = len(data) if name.endswith("gz") else 40 * 3584  # a plain one is padded with zeros behind its end
    path.write_bytes(data[: int(cut * size)])
    found: list[bytes] = []
    with pytest.raises(TocsinError, match="damaged or cut"):
        found.extend(p.value for p in read.packets([path]))
    assert found == members[: len(found)]
    assert len(found) >= int(40 * (cut - 0.1))


def test_a_damaged_header_is_not_the_end(make_tar: Callable[..., Path]) -> None:
    path = make_tar([b"x" * 1000 for _ in range(9)], "night.tar")
    data = bytearray(path.read_bytes())
    data[512 + 4 * 1536 : 512 + 4 * 1536 + 8] = b"damaged!"  # the fifth member's name, so its checksum is wrong
    path.write_bytes(data)
    found: list[bytes] = []
    with pytest.raises(TocsinError, match="damaged or cut"):
        found.extend(p.value for p in read.packets([path]))
    assert len(found) == 4


def test_a_wrong_checksum_of_the_compressed_stream_is_noticed(make_tar: Callable[..., Path]) -> None:
    path = make_tar([b"y" * 1000 for _ in range(9)])
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(TocsinError, match="damaged or cut"):
        values(path)


def test_large_members_are_cut_and_long_names_read(make_tar: Callable[..., Path], tmp_path: Path) -> None:
    import io
    import tarfile

    path = tmp_path / "long.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, size in (("é" * 200 + ".avro", 10), ("big.avro", 2_000_000), ("n" * 150, 5)):
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(b"z" * size))
    assert [len(value) for value in values(path, limit=1_000_000)] == [10, 1_000_001, 5]


def test_a_size_beyond_all_sizes_is_damage(tmp_path: Path) -> None:
    import tarfile

    path = tmp_path / "night.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("1.avro")
        info.pax_headers = {"size": "9" * 5000}  # Python makes no number of so many digits
        archive.addfile(info)
    with pytest.raises(TocsinError, match="damaged or cut: a sparse file, or a size that is none"):
        values(path)


def test_what_is_done_is_passed_over(make_tar: Callable[..., Path], tmp_path: Path) -> None:
    tar = make_tar([container([n]) for n in range(6)])
    many = tmp_path / "many.avro"
    many.write_bytes(container(range(4)))
    done = {(str(tar), 0), (str(tar), 4), (str(many), 1)}
    left = list(read.packets([many, tar], skip=lambda path, record: (path, record) in done))
    assert [(Path(p.path).name, p.record) for p in left] == [
        ("many.avro", 0), ("many.avro", 2), ("many.avro", 3),
        *(("ztf_public_20260101.tar.gz", n) for n in (1, 2, 3, 5)),
    ]  # fmt: skip


def test_memory_does_not_grow_with_the_members(make_tar: Callable[..., Path]) -> None:
    path = make_tar([bytes([n % 256]) * 200 for n in range(8000)])
    tracemalloc.start()
    assert sum(1 for _ in read.packets([path])) == 8000
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()


def test_the_real_archives(real_alerts: Path) -> None:
    packets = list(read.packets([real_alerts]))
    assert len(packets) == 30 + 24 + 12 + 7 + 1 == read.count([real_alerts])
    singles = [p for p in packets if "/20231012/" in p.path]
    assert all(p.value == Path(p.path).read_bytes() for p in singles)
    assert len({(p.path, p.record) for p in packets}) == len(packets)
