"""Fink's own science modules on our packets, called as its Spark job calls them, without Spark around them.

Runs in Fink's environment, so it imports nothing of ours. Arguments: survey, schema (JSON), bodies (each after its
length, 8 bytes little-endian). Prints what each module took, JSON: CPU seconds, alerts given, alerts that passed its
own cuts (those that got an answer other than its default).
"""

from __future__ import annotations

import io
import json
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pandas as pd

Json = dict[str, Any]
BATCH = 1000  # rows that Spark hands to a module at once are some thousands


def main(survey: str, schema: Path, bodies: Path) -> None:
    """Measure every module that runs; tell why another one does not."""
    warnings.simplefilter("ignore")
    parsed = fastavro.parse_schema(json.loads(schema.read_text()))
    began = time.process_time()
    records: Any = [fastavro.schemaless_reader(io.BytesIO(body), parsed, None) for body in split(bodies.read_bytes())]
    found: Json = {"decode (fastavro)": {"cpu_s": time.process_time() - began, "alerts": len(records)}}
    began = time.process_time()
    columns = (ztf if survey == "ztf" else lsst)(records)
    found["columns"] = {"cpu_s": time.process_time() - began, "alerts": len(records)}
    for name, module in (ZTF if survey == "ztf" else LSST).items():
        try:
            found[name] = measure(module, columns)
        except Exception as error:
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
    versions = {name: metadata.version(name) for name in ("fink-science", "pandas", "numpy", "torch")}
    print(json.dumps({"modules": found, "versions": versions, "python": sys.version.split()[0]}))  # noqa: T201


def split(data: bytes) -> list[bytes]:
    """Return the bodies of a file."""
    rows, place = [], 0
    while place < len(data):
        end = place + 8 + int.from_bytes(data[place : place + 8], "little")
        rows.append(data[place + 8 : end])
        place = end
    return rows


def measure(module: Callable[[pd.DataFrame], pd.Series], columns: pd.DataFrame) -> Json:
    """Return the module's CPU time on all rows, imports and the first load of its model left out."""
    module(columns.iloc[:2].reset_index(drop=True))
    began, answers = time.process_time(), []
    for start in range(0, len(columns), BATCH):
        answers.append(module(columns.iloc[start : start + BATCH].reset_index(drop=True)))
    spent = time.process_time() - began
    answered = pd.concat(answers).apply(lambda value: value not in (0, -1, 0.0, -1.0) and value == value)  # noqa: PLR0124
    return {"cpu_s": spent, "alerts": len(columns), "answered": int(answered.sum())}


def history(records: list[Json], current: str, lists: str, names: dict[str, str]) -> Json:
    """Return columns of arrays: a packet's history, then its own detection, as Fink's ``concat_col`` makes them.

    A point of the history at the detection's own time is left out: the forest's fit refuses equal times.
    """
    when = next(iter(names.values()))
    rows = [
        [*(p for p in record[lists] or [] if p[when] != record[current][when]), record[current]] for record in records
    ]
    return {column: [np.array([point[name] for point in row]) for row in rows] for column, name in names.items()}


def ztf(records: list[Json]) -> pd.DataFrame:
    """Return the columns that Fink's ZTF modules take."""
    names = ("jd", "fid", "magpsf", "sigmapsf", "distnr", "magnr", "sigmagnr", "isdiffpos")
    arrays = history(records, "candidate", "prv_candidates", {f"c{name}": name for name in names})
    for name in set(arrays) - {"cfid", "cisdiffpos"}:
        arrays[name] = [np.array(row, dtype=float) for row in arrays[name]]
    single = {
        name: [record["candidate"].get(name) for record in records]
        for name in ("jdstarthist", "ndethist", "sgscore1", "ssdistnr", "distpsnr1")
    }
    ids = {name: [record[name] for record in records] for name in ("candid", "objectId")}
    return pd.DataFrame({**arrays, **single, **ids, "cdsxmatch": "Unknown", "roid": 0})


def lsst(records: list[Json]) -> pd.DataFrame:
    """Return the columns that Fink's Rubin modules take: forced photometry and the detection."""
    names = {f"c{name}": name for name in ("midpointMjdTai", "band", "psfFlux", "psfFluxErr")}
    arrays = history(records, "diaSource", "prvDiaForcedSources", names)
    return pd.DataFrame({**arrays, "diaSourceId": [record["diaSource"]["diaSourceId"] for record in records]})


def fixed(columns: pd.DataFrame, value: str) -> pd.Series:
    """Return a literal column."""
    return pd.Series([value] * len(columns))


def snn_ztf(model: str) -> Callable[[pd.DataFrame], pd.Series]:
    """Return SuperNNova with one of the ZTF models."""

    def run(c: pd.DataFrame) -> pd.Series:
        from fink_science.ztf.snn.processor import snn_ia

        light = (c.candid, c.cjd, c.cfid, c.cmagpsf, c.csigmapsf)
        return snn_ia.func(*light, c.roid, c.cdsxmatch, c.jdstarthist, fixed(c, model))

    return run


def early_ztf(c: pd.DataFrame) -> pd.Series:
    """Run the early type Ia random forest on sigmoid fits."""
    from fink_science.ztf.random_forest_snia.processor import rfscore_sigmoid_full

    return rfscore_sigmoid_full.func(c.cjd, c.cfid, c.cmagpsf, c.csigmapsf, c.cdsxmatch, c.ndethist)


def features_ztf(c: pd.DataFrame) -> pd.Series:
    """Extract the light-curve features of the anomaly score, a row at a time as its UDF does."""
    from fink_science.ztf.ad_features.processor import extract_features_ad_raw

    names = ("cmagpsf", "cjd", "csigmapsf", "cfid", "objectId", "cdistnr", "cmagnr", "csigmagnr", "cisdiffpos")
    return pd.Series([extract_features_ad_raw(*row) for row in zip(*(c[name] for name in names), strict=True)])


def anomaly_ztf(c: pd.DataFrame) -> pd.Series:
    """Score the features."""
    from fink_science.ztf.anomaly_detection.processor import anomaly_score

    return anomaly_score.func(features_ztf(c))


def snn_lsst(c: pd.DataFrame) -> pd.Series:
    """Run SuperNNova with the model that Fink uses for Rubin."""
    from fink_science.rubin.snn.processor import snn_ia_elasticc

    light = (c.diaSourceId, c.cmidpointMjdTai, c.cband, c.cpsfFlux, c.cpsfFluxErr)
    return snn_ia_elasticc.func(*light, fixed(c, "elasticc_binary_broad/SN_vs_other"))


def early_lsst(c: pd.DataFrame) -> pd.Series:
    """Run the early type Ia random forest on rainbow fits."""
    from fink_science.rubin.random_forest_snia.processor import rfscore_rainbow_elasticc_nometa

    return rfscore_rainbow_elasticc_nometa.func(c.cmidpointMjdTai, c.cband, c.cpsfFlux, c.cpsfFluxErr)


def cats_lsst(c: pd.DataFrame) -> pd.Series:
    """Run the broad classifier CATS (TensorFlow)."""
    from fink_science.rubin.cats.processor import predict_nn

    answers = predict_nn.func(c.cmidpointMjdTai, c.cpsfFlux, c.cpsfFluxErr, c.cband)
    return pd.Series([float(np.max(answer)) for answer in answers])


ZTF = {
    "SuperNNova, SN": snn_ztf("snn_sn_vs_all"),
    "SuperNNova, Ia": snn_ztf("snn_snia_vs_nonia"),
    "early Ia forest": early_ztf,
    "anomaly features and score": anomaly_ztf,
}
LSST = {"SuperNNova, SN": snn_lsst, "early Ia forest": early_lsst, "CATS": cats_lsst}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
