"""Annotations as flat Parquet columns, for people with pandas, polars or DuckDB; and back again.

Every file that the same models made has the same columns, whatever survey its rows are of, so a folder of them is one
table: ``pandas.read_parquet("DIR/annotations")``; a replay that went on with other models has files of two kinds. A
classifier's columns end with its name without the survey (``gru`` for ``ztf-gru`` and ``lsst-gru``): ``p_snia_gru``;
``p_snia`` is of the average of the classifiers, or of the only one; ``p_snlike`` and so on: branches of the taxonomy.
A missing number is null.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import fastavro

from broker.core.bands import SURVEYS
from broker.core.reading import branches, probabilities
from broker.core.schemas import OwnSchema
from broker.core.taxonomy import BRANCHES, BY_ID, CLASSES

Row = dict[str, Any]

# column -> field of the annotation; a dot leads into a record
_TEXTS = {
    "object_id": "objectId", "survey": "survey", "outcome": "outcome", "reason": "unscoredReason", "band": "band",
    "solar_system_id": "context.solarSystemId", "anomaly_reason": "anomaly.reason", "source": "source.topic",
    "broker_version": "brokerVersion",
}  # fmt: skip
_LONGS = {
    "alert_id": "alertId", "dia_source_id": "diaSourceId", "n_detections": "summary.nDetections",
    "n_forced": "summary.nForced", "n_limits": "summary.nLimits", "points_used": "points.used",
    "points_not_finite": "points.notFinite", "points_unknown_band": "points.unknownBand",
    "points_duplicate": "points.duplicate", "points_not_public": "points.notPublic",
    "source_partition": "source.partition", "source_offset": "source.offset", "nearest_class": "nearestClass",
}  # fmt: skip
_DOUBLES = {
    "ra": "ra", "dec": "dec", "mjd": "mjd", "flux": "flux", "flux_err": "fluxErr", "first_mjd": "summary.firstMjd",
    "last_mjd": "summary.lastMjd",
}  # fmt: skip
_FLOATS = {
    "anomaly": "anomaly.score", "real_bogus": "context.realBogus", "star_galaxy": "context.starGalaxy",
    "ref_distance": "context.refDistance",
}  # fmt: skip
_BOOLEANS = {
    "solar_system": "context.solarSystem", "negative": "context.negative", "repeated": "context.repeated",
}  # fmt: skip
_TIMES = {
    "source_time": "source.timestamp", "survey_published": "surveyPublishTimestamp",
    "ingested": "brokerIngestTimestamp", "published": "brokerPublishTimestamp",
}  # fmt: skip
_GROUPS = {
    "string": _TEXTS, "int64": _LONGS, "float64": _DOUBLES, "float32": _FLOATS, "bool_": _BOOLEANS, "time": _TIMES,
}  # fmt: skip
_MAPS = {"last_mag": "summary.lastMag", "rise_rate": "summary.riseRate"}
_END = {
    "outcome": "outcome", "unscored_reason": "unscoredReason", "source": "source.topic",
    "source_partition": "source.partition", "source_offset": "source.offset", "published": "brokerPublishTimestamp",
}  # fmt: skip
_BANDS = tuple(dict.fromkeys(band for survey in SURVEYS.values() for band in survey.bands))
_PARTS = ("exposure", "forest", "reconstruction")
_BRANCHES = {class_id: name.lower().replace("-", "") for class_id, (name, _) in BRANCHES.items()}
_NO_TREE: Row = {"prior": [], "branches": []}


@dataclass(frozen=True, slots=True)
class Flat:
    """Writes annotations as flat columns.

    Parameters
    ----------
    classifiers : tuple of str
        Names of the cards of every survey; they give the columns.
    """

    classifiers: tuple[str, ...]

    def __call__(self, schema: OwnSchema, bodies: Sequence[bytes]) -> bytes:
        """Return one Parquet file of Avro records (n,) in ``schema``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [_row(fastavro.schemaless_reader(io.BytesIO(body), schema.parsed, None)) for body in bodies]
        arrow = self._arrow()
        columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in arrow]
        out = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(columns, schema=arrow), out, compression="zstd")
        return out.getvalue()

    def _arrow(self) -> Any:
        """Return the columns as pyarrow's schema."""
        import pyarrow as pa

        fields = [
            (name, pa.timestamp("ms", tz="UTC") if kind == "time" else getattr(pa, kind)())
            for kind, group in _GROUPS.items()
            for name in group
        ]
        short = tuple(dict.fromkeys(_short(name) for name in self.classifiers))
        nodes = (*(c.slug for c in CLASSES), *_BRANCHES.values())
        for suffix in ("", *(f"_{name}" for name in short)):
            fields += [(f"p_{node}{suffix}", pa.float32()) for node in nodes]
        for name in short:
            fields += [(f"p_err_{node}_{name}", pa.float32()) for node in nodes]
            fields += [(f"prior_{c.slug}_{name}", pa.float32()) for c in CLASSES]
            fields += [(f"model_{name}", pa.string()), (f"reason_{name}", pa.string())]
        fields += [("model_anomaly", pa.string()), *((f"anomaly_{part}", pa.float32()) for part in _PARTS)]
        fields += [(f"{name}_{band}", pa.float32()) for name in _MAPS for band in _BANDS]
        return pa.schema(fields)


def records(path: Path) -> Iterator[Row]:
    """Yield the annotations of one file as records of the annotation schema.

    Of results, which have a row per record of a product, the end of each product: the fields of `_END`.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    if "product_id" in file.schema_arrow.names:
        for row in file.read(list(_END)).group_by(list(_END)).aggregate([]).to_pylist():
            yield _nested(row, _END)
        return
    for batch in file.iter_batches():
        for row in batch.to_pylist():
            yield _record(row)


def _nested(row: Row, paths: Mapping[str, str]) -> Row:
    """Return a flat row as a record, by the path of each column."""
    out: Row = {}
    for name, path in paths.items():
        _put(out, path, row[name])
    return out


def _short(name: str) -> str:
    """Return a model's name without its survey, as part of a column's name."""
    head, _, rest = name.partition("-")
    return (rest if head in SURVEYS and rest else name).replace("-", "_")


def _row(annotation: Row) -> Row:
    """Return an annotation as one flat row; a column that is missing is null."""
    row = {name: _get(annotation, path) for group in _GROUPS.values() for name, path in group.items()}
    row["source_time"] = row["source_time"] if row["source_time"].timestamp() >= 0 else None
    for classifier, tree in zip_longest(annotation["classifiers"], annotation.get("trees", ()), fillvalue=_NO_TREE):
        row |= _answer(classifier, tree)
    row |= {f"p_{BY_ID[class_id].slug}": value for class_id, value in probabilities(annotation).items()}
    row |= {f"p_{_BRANCHES[class_id]}": value for class_id, value in branches(annotation).items()}
    if annotation["anomaly"] is not None:
        row["model_anomaly"] = _model(annotation["anomaly"], "model")
        row |= {f"anomaly_{part}": value for part, value in annotation["anomaly"]["parts"].items()}
    for name, path in _MAPS.items():
        row |= {f"{name}_{band}": value for band, value in _get(annotation, path).items()}
    return row


def _answer(classifier: Row, tree: Row) -> Row:
    """Return what one classifier says as columns."""
    short = _short(classifier["classifierName"])
    row = {f"model_{short}": _model(classifier, "classifier"), f"reason_{short}": classifier["reason"]}
    for entry in (*classifier["classifications"], *tree["branches"]):
        node = _BRANCHES.get(entry["classId"]) or BY_ID[entry["classId"]].slug
        row[f"p_{node}_{short}"], row[f"p_err_{node}_{short}"] = entry["probability"], entry["uncertainty"]
    for entry, prior in zip(classifier["classifications"], tree["prior"], strict=False):  # none in version 1.0
        row[f"prior_{BY_ID[entry['classId']].slug}_{short}"] = prior
    return row


def _record(row: Row) -> Row:
    """Return a flat row as the annotation that it was made of."""
    out: Row = {"brokerName": "tocsin", "points": {}, "summary": {}, "context": {}, "source": {}, "anomaly": {}}
    for group in _GROUPS.values():
        for name, path in group.items():
            _put(out, path, row.get(name))  # files of an older version lack some
    out["source"]["timestamp"] = row["source_time"] or datetime.fromtimestamp(-0.001, UTC)
    for name, path in _MAPS.items():
        _put(out, path, _some(row, f"{name}_", _BANDS))
    model = row["model_anomaly"]
    named = dict(zip(("modelName", "modelVersion", "modelParams"), (model or "").split("/"), strict=False))
    out["anomaly"] = out["anomaly"] | named | {"parts": _some(row, "anomaly_", _PARTS)} if model else None
    shorts = [name.removeprefix("model_") for name in row if name.startswith("model_") and name != "model_anomaly"]
    shorts = [short for short in shorts if row[f"model_{short}"] is not None]
    out["classifiers"] = [_classifier(row, short) for short in shorts]
    out["trees"] = [_tree(row, short) for short in shorts]
    return out


def _classifier(row: Row, short: str) -> Row:
    name, version, params = row[f"model_{short}"].split("/")
    return {
        "classifierName": name,
        "classifierVersion": version,
        "classifierParams": params,
        "reason": row[f"reason_{short}"],
        "classifications": _nodes(row, short, {c.id: c.slug for c in CLASSES}),
    }


def _tree(row: Row, short: str) -> Row:
    prior = _some(row, "prior_", [f"{c.slug}_{short}" for c in CLASSES])
    return {"prior": list(prior.values()), "branches": _nodes(row, short, _BRANCHES)}


def _nodes(row: Row, short: str, slugs: Mapping[int, str]) -> list[Row]:
    return [
        {"classId": i, "probability": row[f"p_{slug}_{short}"], "uncertainty": row[f"p_err_{slug}_{short}"]}
        for i, slug in slugs.items()
        if row.get(f"p_{slug}_{short}") is not None
    ]


def _model(record: Row, prefix: str) -> str:
    return "/".join(record[f"{prefix}{what}"] for what in ("Name", "Version", "Params"))


def _some(row: Row, prefix: str, names: Iterable[str]) -> dict[str, float]:
    return {name: row[prefix + name] for name in names if row.get(prefix + name) is not None}


def _get(record: Any, path: str) -> Any:
    for name in path.split("."):
        record = None if record is None else record.get(name)
    return record


def _put(record: Row, path: str, value: Any) -> None:
    *records, name = path.split(".")
    for inner in records:
        record = record.setdefault(inner, {})
    record[name] = value
