"""Results as flat Parquet columns: one row per record, for people with pandas, polars or DuckDB.

A quantity ``z`` has ``z`` and ``z_err`` (1 sigma), where there is a posterior ``z_q05`` to ``z_q95``, of classes
``p_<label>`` instead of errors; then ``out_of_domain`` and ``reason``. Where several rows of the survey models answer,
each column ends with its row's id, and with the variant where one row answers by several. A missing number is null.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np

from broker.core.schemas import OwnSchema
from broker.sidecar.answer import Floats, Output, Provenance
from broker.sidecar.product import NoAnswer
from broker.sidecar.write import Said, said_in

LEVELS = np.array([0.05, 0.16, 0.5, 0.84, 0.95])
Quantiles = Callable[[Output, Floats], Floats]
Columns = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FlatResults:
    """Writes results as flat columns.

    Parameters
    ----------
    rows : sequence of str
        Names of the rows that answer, each with its variant, such as ``pz-mdn@dc2``.
    quantiles : callable
        Of an output with a posterior, at some levels (l,): (n, l).
    threads : int
        That work, each on products of its own.
    """

    rows: Sequence[str]
    quantiles: Quantiles
    threads: int = 1

    def __call__(self, schema: OwnSchema, bodies: Sequence[bytes]) -> bytes:
        """Return one Parquet file of Avro records (n,) in ``schema``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        results = [fastavro.schemaless_reader(io.BytesIO(body), schema.parsed, None) for body in bodies]
        with ThreadPoolExecutor(self.threads, "flat") as pool:
            tables = list(pool.map(pa.table, pool.map(self._columns, results)))
        out = io.BytesIO()
        pq.write_table(pa.concat_tables(tables, promote_options="default"), out, compression="zstd")
        return out.getvalue()

    def _columns(self, result: dict[str, Any]) -> Columns:
        """Return the columns of one product's records."""
        n = len(result["records"])
        columns: Columns = {"id": result["records"], **_constant(_about(result), n)}
        answers = {_name(said.provenance): self._answer(said) for said in said_in(result)}
        for row in self.rows:
            found = answers.get(row) or _constant({"reason": str(NoAnswer.OTHER_KIND)}, n)
            columns |= {name + self._suffix(row): values for name, values in found.items()}
        return columns

    def _suffix(self, row: str) -> str:
        """Return what the names of a row's columns end with, so that no other's are the same."""
        if len(self.rows) == 1:
            return ""
        row_id, _, variant = row.partition("@")
        alike = [name for name in self.rows if name.partition("@")[0] == row_id]
        return "_" + (row_id if len(alike) < 2 else f"{row_id}_{variant}").replace("-", "_")

    def _answer(self, said: Said) -> Columns:
        import pyarrow as pa

        origin, answer = said.provenance, said.answer
        columns: Columns = {}
        for output in answer.outputs:
            columns |= {name: _numbers(values) for name, values in self._output(output).items()}
        columns["out_of_domain"] = _numbers(answer.out_of_domain)
        columns["reason"] = pa.array([reason or None for reason in answer.reason], pa.string())
        model = "/".join((_name(origin), origin.version, origin.weights_hash[:16]))
        return columns | _constant({"model": model, "toy": origin.toy}, len(answer.reason))

    def _output(self, output: Output) -> dict[str, Floats]:
        if output.form == "classes":
            names = [output.labels[int(v)] if np.isfinite(v) else None for v in output.value]
            found = {f"p_{label}": output.parts["probabilities"][:, k] for k, label in enumerate(output.labels)}
            return {output.name: np.array(names, object), **found}
        columns = {output.name: output.value, f"{output.name}_err": output.sigma}
        if output.form != "value":
            at = self.quantiles(output, LEVELS)
            columns |= {f"{output.name}_q{round(100 * level):02d}": at[:, k] for k, level in enumerate(LEVELS.tolist())}
        return columns


def _name(origin: Provenance) -> str:
    return f"{origin.row}@{origin.variant}"


def _about(result: dict[str, Any]) -> dict[str, Any]:
    """Return what is the same for all records: whose they are, and what the ledger is recounted from."""
    return {
        "product_id": result["productId"],
        "survey": result["survey"],
        "object_id": result["objectId"],
        "alert_id": result["alertId"],
        "outcome": result["outcome"],
        "unscored_reason": result["unscoredReason"],
        "source": result["source"]["topic"],
        "source_partition": result["source"]["partition"],
        "source_offset": result["source"]["offset"],
        "published": result["brokerPublishTimestamp"],
    }


def _constant(values: dict[str, Any], n: int) -> Columns:
    import pyarrow as pa

    kinds = {"alert_id": pa.int64(), "toy": pa.bool_(), "source_partition": pa.int32(), "source_offset": pa.int64()}
    kinds["published"] = pa.timestamp("ms", tz="UTC")
    return {name: pa.repeat(pa.scalar(value, kinds.get(name, pa.string())), n) for name, value in values.items()}


def _numbers(values: Floats) -> Any:
    """Return numbers as an Arrow array, null for NaN; names as text."""
    import pyarrow as pa

    if values.dtype == object:
        return pa.array(values.tolist(), pa.string())
    return pa.array(np.asarray(values, np.float32), from_pandas=True)
