"""A wheel and an editable install in clean environments: `broker` alone is importable, and nothing is missing."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def call(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def made(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT, cwd=out)
    return next(out.glob("tocsin-*.whl"))


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    binaries = made(folder / "venv")
    call(binaries / "python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return binaries


def test_the_base_install_has_the_command_and_no_torch(base: Path, tmp_path: Path) -> None:
    for command in (["--help"], ["subscribe", "--help"], ["config", "check"], ["schema", "list"]):
        call(base / "tocsin", *command, cwd=tmp_path)
    probe = "import importlib.util as u, json; print(json.dumps({n: u.find_spec(n) is not None for n in %r}))"
    names = ["broker", "models", "schemas", "deploy", "tests", "torch", "sklearn"]
    found = json.loads(call(base / "python", "-c", probe % (names,), cwd=tmp_path))
    assert found == {name: name == "broker" for name in names}


def test_the_wheel_carries_schemas_cards_and_deploy(base: Path, tmp_path: Path) -> None:
    probe = """
import json, tomllib
from importlib.resources import files
from broker.core import schemas
root = files("broker")
for schema in schemas.by_fingerprint().values():
    json.loads(schema.text)
cards = [d for d in (root / "models" / "weights").iterdir() if d.is_dir()]
for card in cards:
    json.loads((card / "card.json").read_text())
from broker.models.survey import card, registry
for name in card.installed():
    card.read(*registry.find(name))
assert card.installed()
for name in ("demo", "ztf", "lsst"):
    tomllib.loads((root / "deploy" / "config" / (name + ".toml")).read_text())
assert "kafka" in (root / "deploy" / "kafka" / "pom.xml").read_text()
assert (root / "deploy" / "kafka" / "server.properties").is_file()
for survey in ("ztf", "lsst"):
    tomllib.loads((root / "schemas" / "fields" / (survey + ".toml")).read_text())
print(len(cards))
"""
    assert int(call(base / "python", "-c", probe, cwd=tmp_path)) >= 6


def test_what_needs_torch_says_how_to_get_it(base: Path, tmp_path: Path) -> None:
    (tmp_path / "packet.avro").write_bytes(b"")
    done = subprocess.run(
        [base / "tocsin", "score", "packet.avro"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install 'tocsin[broker]'" in done.stderr


def test_an_editable_install_maps_broker_alone(tmp_path: Path) -> None:
    binaries = made(tmp_path / "venv")
    call(binaries / "python", "-m", "pip", "install", "--quiet", "--no-deps", "-e", ROOT, cwd=tmp_path)
    probe = "import importlib.util as u, broker; print([n for n in ('models', 'schemas', 'deploy') if u.find_spec(n)])"
    assert call(binaries / "python", "-c", probe, cwd=tmp_path).strip() == "[]"
