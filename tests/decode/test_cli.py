"""``tocsin schema`` and ``tocsin bench decode``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli.bench.decode import decode as bench
from broker.cli.schema import schema
from broker.core.errors import TocsinError
from broker.decode import Decoder, SchemaStore
from broker.decode.schemas import installed
from tests.decode import samples
from tests.decode.conftest import Real
from tests.decode.oracle import batch, wire


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOCSIN_RUN__CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "schemas"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(schema, arguments)


def test_an_added_schema_resolves(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "alert.avsc"
    file.write_text(json.dumps(samples.LSST_JSON))
    assert call("add", "--id", "7", str(file)).exit_code == 0
    assert json.loads(call("list", "--json").output)["disk"] == [7]
    (found,), dead = Decoder(SchemaStore(None, cache, package=False))(batch([wire(7, samples.LSST, samples.lsst())]))
    assert dead == []
    assert len(found.alerts) == 1


def test_a_schema_in_several_files_gets_its_id_from_its_name(cache: Path, tmp_path: Path) -> None:
    source = {"type": "record", "name": "lsst.v12_3.diaSource", "fields": [{"name": "x", "type": "int"}]}
    fields = [{"name": "diaSource", "type": "lsst.v12_3.diaSource"}]
    alert = {"type": "record", "namespace": "lsst.v12_3", "name": "alert", "fields": fields}
    files = tmp_path / "alert.avsc", tmp_path / "diaSource.avsc"
    for file, text in zip(files, (alert, source), strict=True):
        file.write_text(json.dumps(text))
    result = call("add", *map(str, files))
    assert result.exit_code == 0
    assert "schema 1203" in result.output
    assert isinstance(call("add", str(files[0])).exception, TocsinError)  # refers to a type that nobody defines


@pytest.mark.parametrize("text", ["{", '{"type": "record"}', '{"type": "record", "name": "r", "fields": []}'])
def test_what_cannot_be_added_is_said(cache: Path, tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.avsc"
    file.write_text(text)
    assert isinstance(call("add", str(file)).exception, TocsinError)
    assert not cache.exists()


def test_the_packages_schemas_are_listed(cache: Path, rubin: dict[int, Any]) -> None:
    assert set(rubin) <= set(json.loads(call("list", "--json").output)["package"])
    assert "1101" in call("list").output
    assert installed(1101) is not None


def test_bench_decode_reports_ratios(real: Real) -> None:
    result = CliRunner().invoke(bench, ["--json", "--batch", "24", "--repeats", "1"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    for survey, packets in (("ztf", 24), ("lsst", 5)):
        assert found[survey]["packets"] == packets
        assert found[survey]["ratio"] > 1
        assert "candidate.jd" in found[survey]["captured"] or "diaSource.psfFlux" in found[survey]["captured"]
    assert found["gflops"] > 0


def test_bench_decode_without_data_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOCSIN_TEST_DATA", raising=False)
    assert "TOCSIN_TEST_DATA" in str(CliRunner().invoke(bench, ["--json"]).exception)
