"""The machine's own figures, printed beside ours: absolute numbers mean nothing without them."""

from __future__ import annotations

import io
import os
import time

import fastavro
import numpy as np

from broker.core.errors import TocsinError


def gflops(repeats: int = 5) -> float:
    """Return the best GFLOPS of a 1024² float32 matrix product, on as many threads as numpy's BLAS takes."""
    a = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
    best = min(_seconds(lambda: a @ a) for _ in range(repeats))
    return 2 * 1024**3 / best / 1e9


def has_avx512() -> bool:
    """Say whether numba's code may use registers of 64 bytes."""
    from llvmlite import binding  # type: ignore[import-untyped]

    return bool(binding.get_host_cpu_features().get("avx512f"))


def fastavro_ms(packets: list[bytes], schema_text: str | None) -> float:
    """Return the milliseconds that ``fastavro.schemaless_reader`` takes per packet, its parsed schema cached.

    Parameters
    ----------
    schema_text : str or None
        Writer schema of wire-format packets; None: the packets are containers that carry it.
    """
    rows, schema = bodies(packets, schema_text)
    return _seconds(lambda: [fastavro.schemaless_reader(io.BytesIO(b), schema, None) for b in rows]) / len(rows) * 1e3


def bodies(packets: list[bytes], schema_text: str | None) -> tuple[list[bytes], object]:
    """Return the packets without what is around their records, and fastavro's writer schema; see `fastavro_ms`."""
    import json

    if schema_text is not None:
        return [packet[5:] for packet in packets], fastavro.parse_schema(json.loads(schema_text))
    blocks = [next(iter(fastavro.block_reader(io.BytesIO(packet)))) for packet in packets]
    if any(block.num_records != 1 for block in blocks):
        raise TocsinError("the bench expects one record per container")
    return [block.bytes_.getvalue() for block in blocks], blocks[0].writer_schema


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _seconds(call: object) -> float:
    began = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - began
