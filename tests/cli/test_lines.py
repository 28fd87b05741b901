"""What a person reads of an annotation: one line, and one row of a table that fits a terminal."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from typing import Any

import fastavro
import numpy as np
import pytest
from rich.console import Console

from broker.cli import live
from broker.cli.subscribe import line
from broker.core import schemas
from broker.sidecar.product import Array, Kind, Product
from broker.sidecar.write import product_message


def sample(version: str) -> Any:
    text = (files("broker") / "schemas" / "annotation" / version / "sample.json").read_text()
    parsed = schemas.versions("annotation")[version].parsed
    (record,) = fastavro.json_reader(io.StringIO(json.dumps(json.loads(text))), parsed)
    return record


@pytest.mark.parametrize(("version", "best", "p", "sum_"), [("1.0", "SN Ia", 0.75, 1.0), ("1.1", "SN Ia", 0.5, 0.5)])
def test_the_class_to_go_by_and_its_branch_are_told_once(version: str, best: str, p: float, sum_: float) -> None:
    record = sample(version)
    told = line(record)
    assert f"{best} {p:.2f} (SN-like {sum_:.2f})  anomaly 0.50" in told
    assert told.count("SN") == 2
    assert len(told) < 120
    assert live.row(record)[2:5] == (best, f"{p:.2f}", f"{sum_:.2f}")


def test_an_unscored_alert_has_its_reason() -> None:
    record = sample("1.1")
    record |= {"unscoredReason": "bogus", "anomaly": None}
    for entry in record["classifiers"]:
        entry |= {"classifications": [], "reason": "bogus"}
    assert line(record).endswith(" bogus")
    assert live.row(record)[2:6] == ("(bogus)", "-", "-", "-")


def test_a_class_of_another_taxonomy_is_a_number() -> None:
    record = sample("1.0")
    record["classifiers"][0]["classifications"] = [{"classId": 7, "probability": 1.0, "uncertainty": None}]
    assert " 7 1.00" in line(record)
    assert live.row(record)[2:5] == ("7", "1.00", "-")


def test_a_product_tells_what_it_holds_of_whom() -> None:
    arrays = {"mag_g": Array("mag", np.array([18.5])), "star_galaxy": Array("", np.array([0.1]))}
    made = Product("ztf.7.catalog", Kind.CATALOG, ["host"], arrays, object_id="ZTF7", alert_id=7)
    told = line(schemas.decode(product_message(made), None, "product"))
    assert told == f"{'ZTF7':<20} catalog: mag_g (1,) mag, star_galaxy (1,)"


def test_the_table_fits_its_picture() -> None:
    record = sample("1.1")
    record["objectId"] = "313888690469511284"
    record["classifiers"][-1]["classifications"] = [{"classId": 2233, "probability": 1.0, "uncertainty": None}]
    console = Console(width=86, file=io.StringIO(), record=True)
    console.print(live.table([record]))
    text = console.export_text()
    assert "313888690469511284 │ ztf    │ M-dwarf │ 1.00 │   1.00 │   0.500 │ 20.00 g │   11.0" in text
