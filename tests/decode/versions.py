"""Every published version of the surveys' schemas: ZTF's from our newest field list and what each version lacked.

What changed between ZTF's versions is listed here in our words (source: the history of the repository
ZwickyTransientFacility/ztf-avro-alert); no survey's schema is kept. Rubin's come from the installed package.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from broker.archive import simulate

_PS1 = [f"{name}{n}" for n in (2, 3) for name in ("sgmag", "srmag", "simag", "szmag", "sgscore", "distpsnr")]
_PS1 += [f"objectidps{n}" for n in (1, 2, 3)]
_REFERENCE = ["tooflag", "nmtchps", "rfid", "jdstartref", "jdendref", "nframesref"]
_ZERO_POINT = ["magzpsci", "magzpsciunc", "magzpscirms", "clrcoeff", "clrcounc"]
_CALIBRATION = [*_ZERO_POINT, "nmatches", "zpclrcov", "zpmed", "clrmed", "clrrms", "dsnrms", "ssnrms", "dsdiff"]
_GAIA = ["neargaia", "neargaiabright", "maggaia", "maggaiabright"]
_RENAMED = {f"{name}1": name for name in ("sgmag", "srmag", "simag", "szmag", "sgscore")}  # up to 1.6

# Newest first: what a version lacks that the next one has, by record.
LACKS: dict[str, dict[str, list[str]]] = {
    "4.02": {},
    "4.01": {},
    "3.3": {"alert": ["fp_hists"]},
    "3.2": {"candidate": ["drb", "drbversion"]},
    "3.1": {"prv_candidate": _ZERO_POINT},
    "3.0": {"candidate": ["exptime"]},
    "2.0": {"candidate": [*_CALIBRATION, *_GAIA]},
    "1.8": {"candidate": ["rbversion"], "prv_candidate": ["rbversion"], "alert": ["schemavsn", "publisher"]},
    "1.6": {"candidate": [*_PS1, *_REFERENCE]},
    "1.5": {"candidate": ["scorr"], "prv_candidate": ["scorr"]},
    "1.3": {"candidate": ["distpsnr1"]},
}


def ztf_schema(version: str) -> Any:
    """The writer schema of a ZTF version: names, types and order of the fields."""
    schema = json.loads(simulate.schema("ztf"))
    order = list(LACKS)
    at = order.index(version)
    for older in order[: at + 1]:
        for record, names in LACKS[older].items():
            _drop(schema, record, set(names))
    if at >= order.index("3.3"):
        schema = _null_last(schema)
    if at >= order.index("1.6"):
        _rename(schema)
    return schema


def records(schema: Any) -> dict[str, Any]:
    """The records of a schema by the last part of their names."""
    found, pending = {}, [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict):
            if node.get("type") == "record":
                found[node["name"].rpartition(".")[2]] = node
                pending += [field["type"] for field in node["fields"]]
            pending += [node[key] for key in ("items", "type") if isinstance(node.get(key), dict | list)]
    return found


def _drop(schema: Any, record: str, names: set[str]) -> None:
    node = records(schema)[record]
    kept = [field for field in node["fields"] if field["name"] not in names]
    assert len(kept) == len(node["fields"]) - len(names)
    node["fields"] = kept


def _null_last(node: Any) -> Any:
    """The same types with null as the last branch, as ZTF wrote them up to 3.3."""
    if isinstance(node, list):
        return [_null_last(branch) for branch in node if branch != "null"] + ["null"]
    if isinstance(node, dict):
        return {key: _null_last(value) if key in ("type", "items") else value for key, value in node.items()} | (
            {"fields": [_null_last(field) for field in node["fields"]]} if "fields" in node else {}
        )
    return node


def _rename(schema: Any) -> None:
    for field in records(schema)["candidate"]["fields"]:
        field["name"] = _RENAMED.get(field["name"], field["name"])


def fitted(schema: Any, value: Any, named: dict[str, Any] | None = None) -> Any:
    """A record in the form of another schema, by the names of its fields; what it lacks is null, or nothing."""
    named = {} if named is None else named
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        return None if value is None else fitted(branches[0], value, named)
    if isinstance(schema, str) and schema in named:
        schema = named[schema]
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        full = schema["name"]
        named[f"{schema['namespace']}.{full}" if "namespace" in schema and "." not in full else full] = schema
        given = {**(value or {}), **{old: (value or {}).get(new) for new, old in _RENAMED.items()}}
        given.setdefault("alertId", given.get("diaSourceId"))
        return {field["name"]: fitted(field["type"], given.get(field["name"]), named) for field in schema["fields"]}
    if kind == "array":
        return [fitted(schema["items"], item, named) for item in value or []]
    if isinstance(kind, dict | list):
        return fitted(kind, value, named)
    nothing: dict[str, Any] = {"string": "", "bytes": b"", "boolean": False, "float": 0.0, "double": 0.0}
    return copy.copy(nothing.get(kind, 0)) if value is None else value
