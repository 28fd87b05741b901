"""What the mutator starts from: packets of every framing and schema version at hand, and where things lie in them."""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fastavro

from broker.archive import simulate
from broker.decode import SchemaStore, containers
from broker.decode.limits import Limits
from broker.decode.packets import body_of
from broker.decode.schemas import installed, installed_ids
from broker.decode.tree import PRIMITIVES, TEXTS, VARINTS, WIDTHS
from tests.decode import samples
from tests.decode.generate import Maker

STAMP = b"\x1f\x8b a stamp"  # in the place of real ones: most of a packet, and nothing that we read
SMALL_ID = 7  # wire id of the small Rubin schema of the samples


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something lies in a body.

    Attributes
    ----------
    what : str
        'branch', 'count', 'length', 'number' (a varint), 'float', 'double' or 'item' (a whole item of an array, and in
        ``size`` how many bytes it has).
    at, size : int
    """

    what: str
    at: int
    size: int


@dataclass(frozen=True, slots=True)
class Seed:
    """A good packet.

    Attributes
    ----------
    name : str
    schema : bytes
        The writer schema's text.
    body : bytes
        One record.
    wire_id : int
        The schema's id in the wire format; -1 where the packet is a container.
    marks : list of Mark
        In the order of the body.
    """

    name: str
    schema: bytes
    body: bytes
    wire_id: int
    marks: list[Mark]


class Schemas(SchemaStore):
    """The installed schemas, and those of the samples and simulators under ids of their own."""

    def __init__(self) -> None:
        super().__init__()
        small = json.dumps(samples.LSST_JSON).encode()
        self._own = {SMALL_ID: small, simulate.SIMULATED_ID: simulate.schema("lsst")}

    def get(self, schema_id: int) -> bytes:
        return self._own.get(schema_id) or super().get(schema_id)


def seeds() -> list[list[Seed]]:
    """All seeds by group: simulated, small, generated, of installed Rubin schemas, and real ones at hand."""
    return [group for group in (_simulated(), _small(), _generated(), _rubin(), _real()) if group]


def _seed(name: str, text: bytes, record: Any, wire_id: int = -1) -> Seed:
    schema = _parsed(text)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, _slim(record))
    return Seed(name, text, out.getvalue(), wire_id, marks(json.loads(text), out.getvalue()))


@cache
def _parsed(text: bytes) -> Any:
    return fastavro.parse_schema(json.loads(text))


def _slim(value: Any) -> Any:
    """The record with small stamps."""
    if isinstance(value, dict):
        return {name: _slim(inner) for name, inner in value.items()}
    return STAMP if isinstance(value, bytes) and len(value) > 200 else value


def _simulated() -> list[Seed]:
    store, found = Schemas(), []
    for survey, history, number in (("ztf", "real", 4), ("ztf", "short", 8), ("lsst", "short", 8), ("lsst", "real", 1)):
        for packet in simulate.night(survey, number, 20261123, history=history):  # type: ignore[arg-type]
            text, body = body_of(packet.value, store, Limits())
            record = fastavro.schemaless_reader(io.BytesIO(body), _parsed(text), None)
            found.append(_seed(f"simulated {survey}", text, record, -1 if survey == "ztf" else simulate.SIMULATED_ID))
    return found


def _small() -> list[Seed]:
    ztf, lsst = json.dumps(samples.ZTF_JSON).encode(), json.dumps(samples.LSST_JSON).encode()
    limit = samples.previous(magpsf=None, sigmapsf=None, isdiffpos=None)
    rich = samples.ztf(prv_candidates=[samples.previous(), limit] * 4, fp_hists=[samples.forced()] * 5)
    sources = [samples.source(), samples.source(band="r"), samples.source(band=None, psfFlux=None)] * 3
    forced = [{"midpointMjdTai": 61100.5 + i, "psfFlux": 5.0, "psfFluxErr": 1.0, "band": "z"} for i in range(6)]
    solar = {"ssObjectId": 7, "designation": "2026 AB1"}
    full = samples.lsst(prvDiaSources=sources, prvDiaForcedSources=forced, ssSource=solar)
    pairs = [(ztf, -1, rich), (ztf, -1, samples.ztf()), (lsst, SMALL_ID, full), (lsst, SMALL_ID, samples.lsst())]
    return [_seed("small", text, record, wire_id) for text, wire_id, record in pairs]


def _generated() -> list[Seed]:
    """Packets of random schemas around the fields that we read, as containers."""
    from broker.decode import lsst, ztf

    found = []
    for k in range(12):
        maker = Maker(k)
        schema = maker.schema((ztf.PROJECTION, lsst.PROJECTION)[k % 2])
        text, body = maker.text(schema), maker.encode(schema, maker.value(schema))
        if len(body) < 50_000:
            found.append(Seed("generated", text, body, -1, marks(json.loads(text), body)))
    return found


def _rubin() -> list[Seed]:
    """A random record of installed Rubin schemas, few points."""
    found = []
    for number in installed_ids():
        text = installed(number)
        if number in (700, 704, 800, 900, 1000, 1101) and text is not None:
            maker = _maker_of(json.loads(text), number)
            schema = json.loads(text)
            body = maker.encode(schema, maker.value(schema, depth=3))
            found.append(Seed(f"rubin {number}", text, body, number, marks(schema, body)))
    return found


def _maker_of(schema: Any, seed: int) -> Maker:
    """A maker that knows the named types of a schema."""
    maker = Maker(seed)
    for name, (kind, _) in named_types(schema).items():
        maker._defined[name] = maker._defined[name.rpartition(".")[2]] = kind
    return maker


def _real() -> list[Seed]:
    """Real packets with small stamps, where ``TOCSIN_TEST_DATA`` names some; they are never kept."""
    if "TOCSIN_TEST_DATA" not in os.environ:
        return []
    folder = Path(os.environ["TOCSIN_TEST_DATA"]) / "alerts"
    files = [*sorted((folder / "ztf" / "20231012").iterdir())[:8], *sorted((folder / "ztf" / "20200202").iterdir())[:4]]
    packets = [path.read_bytes() for path in files]
    with tarfile.open(folder / "ztf" / "ztf_public_20180819_mod1000.tar.gz") as tar:
        old = [file.read() for member in tar if member.isfile() and (file := tar.extractfile(member)) is not None]
    packets += old[:8]
    packets += list(containers.split((folder / "lsst" / "fink_lsst_v10_7alerts.avro").read_bytes()))[-2:]
    found, store = [], Schemas()
    for packet in packets:
        text, body = body_of(packet, store, Limits())
        found.append(_seed("real", text, fastavro.schemaless_reader(io.BytesIO(body), _parsed(text), None)))
    wire = (folder / "lsst" / "wire_id900_7912941781254298.avro").read_bytes()
    text, body = body_of(wire, store, Limits())
    found.append(_seed("real", text, fastavro.schemaless_reader(io.BytesIO(body), _parsed(text), None), 900))
    return found


def marks(schema: Any, body: bytes) -> list[Mark]:
    """Where everything of a record lies: a plain reader of Avro."""
    reader = _Reader(schema, body)
    reader.value(schema)
    assert reader.at == len(body)
    return reader.found


def named_types(schema: Any, namespace: str = "") -> dict[str, tuple[Any, str]]:
    """The definitions in a schema by full name, each with the namespace within it."""
    if isinstance(schema, list):
        return {name: found for branch in schema for name, found in named_types(branch, namespace).items()}
    if not isinstance(schema, dict):
        return {}
    found: dict[str, tuple[Any, str]] = {}
    if schema["type"] in ("record", "enum", "fixed"):
        full = schema["name"]
        if "." not in full and (schema.get("namespace") or namespace):
            full = f"{schema.get('namespace') or namespace}.{full}"
        namespace = full.rpartition(".")[0]
        found[full] = schema, namespace
    inner = [schema.get("items"), schema.get("values"), schema["type"], *(schema.get("fields") or [])]
    for kind in inner:
        found.update(named_types(kind, namespace))
    return found


class _Reader:
    """Walks a record and notes what it passes."""

    def __init__(self, schema: Any, body: bytes) -> None:
        self._body = body
        self._named = named_types(schema)
        self._inside = {id(kind): inside for kind, inside in self._named.values()}
        self.at = 0
        self.found: list[Mark] = []

    def value(self, schema: Any, namespace: str = "") -> None:
        if isinstance(schema, list):
            self.value(schema[self._varint("branch")], namespace)
            return
        if isinstance(schema, str) and schema not in PRIMITIVES:
            known = f"{namespace}.{schema}" if f"{namespace}.{schema}" in self._named else schema
            schema = self._named[known][0]
        namespace = self._inside.get(id(schema), namespace)
        kind = schema if isinstance(schema, str) else schema["type"]
        if isinstance(kind, dict | list):
            self.value(kind, namespace)
        elif kind == "record":
            for field in schema["fields"]:
                self.value(field["type"], namespace)
        elif kind in ("array", "map"):
            self._items(schema, kind, namespace)
        elif kind == "fixed":
            self.at += schema["size"]
        else:
            self._primitive("int" if kind == "enum" else kind)

    def _primitive(self, kind: str) -> None:
        if kind in VARINTS:
            self._varint("number")
        elif kind in TEXTS:
            size = self._varint("length")
            self.at += size
        else:
            if kind in ("float", "double"):
                self.found.append(Mark(kind, self.at, WIDTHS[kind]))
            self.at += WIDTHS[kind]

    def _items(self, schema: Any, kind: str, namespace: str) -> None:
        while count := self._varint("count"):
            if count < 0:
                count = -count
                self._varint("number")
            for _ in range(count):
                start, noted = self.at, len(self.found)
                if kind == "map":
                    self._primitive("string")
                self.value(schema["items" if kind == "array" else "values"], namespace)
                self.found.insert(noted, Mark("item", start, self.at - start))

    def _varint(self, what: str) -> int:
        start, value, shift = self.at, 0, 0
        while True:
            byte = self._body[self.at]
            value |= (byte & 0x7F) << shift
            self.at, shift = self.at + 1, shift + 7
            if byte < 0x80:
                break
        self.found.append(Mark(what, start, self.at - start))
        return (value >> 1) ^ -(value & 1)
