"""``tocsin schema``: the disk cache of the surveys' writer schemas."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from broker.core import config as settings
from broker.core.errors import TocsinError
from broker.decode.limits import Limits
from broker.decode.schemas import DiskCache, full_name, inline, installed_ids
from broker.decode.tree import Tree


@click.group()
def schema() -> None:
    """Keep the surveys' writer schemas on disk, for wire-format packets without a registry.

    \b
    Example:
      tocsin schema add lsst.v11_1.alert.avsc lsst.v11_1.diaSource.avsc
      tocsin schema list
    """


@schema.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", "number", type=click.IntRange(0, 2**32 - 1), help="Wire id; default: from a name like v11_1.")
@click.option("--config", "file", type=click.Path(exists=True, path_type=Path), help="Settings, a TOML file.")
def add(files: tuple[Path, ...], number: int | None, file: Path | None) -> None:
    """Add one schema; the first FILE is the alert's, the others define the types that it refers to.

    \b
    Example:
      tocsin schema add --id 1101 alert.avsc
    """
    text = _whole(files)
    tree = Tree(text, Limits())
    for name in _references(json.loads(text)):
        if name not in tree.named:
            raise TocsinError(f"{files[0]} refers to {name}: give the file that defines it as well")
    number = _number(tree.root.name) if number is None else number
    click.echo(f"schema {number}: {_cache(file).put(number, text)}")


@schema.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--config", "file", type=click.Path(exists=True, path_type=Path), help="Settings, a TOML file.")
def list_schemas(as_json: bool, file: Path | None) -> None:
    """List the wire ids that resolve without a registry, and where from.

    \b
    Example:
      tocsin schema list --json
    """
    cache = _cache(file)
    found = {"disk": cache.ids(), "package": installed_ids()}
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"disk cache {cache.folder}: {', '.join(map(str, found['disk'])) or 'empty'}")
    package = ", ".join(map(str, found["package"])) or "not installed (pip install 'tocsin[rubin]')"
    click.echo(f"package lsst-alert-packet: {package}")


def _cache(file: Path | None) -> DiskCache:
    return DiskCache(settings.load(file).run.cache_dir / "schemas")


def _whole(files: tuple[Path, ...]) -> bytes:
    """Return the first file's schema with the others put in."""
    try:
        main, *others = [path.read_text() for path in files]
        named = {full_name(other): other for other in map(json.loads, others)}
        return inline(main, named)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TocsinError(f"{', '.join(map(str, files))}: no Avro schema: {error!r}") from error


def _references(node: Any) -> list[str]:
    """Return every full name that a schema refers to, references within namespaces written out."""
    from broker.decode.tree import PRIMITIVES

    if isinstance(node, str):
        return [node] if node not in PRIMITIVES and "." in node else []
    if isinstance(node, list):
        return [name for branch in node for name in _references(branch)]
    if not isinstance(node, dict):
        return []
    inner = [node[key] for key in ("type", "items", "values") if isinstance(node.get(key), (dict, list, str))]
    fields = [field["type"] for field in node.get("fields", [])]
    return [name for child in (*inner, *fields) for name in _references(child)]


def _number(name: str) -> int:
    """Return ``major * 100 + minor`` of a name like lsst.v11_1.alert."""
    version = re.search(r"\bv(\d+)_(\d+)\b", name)
    if version is None:
        raise TocsinError(f"the schema's name {name!r} does not say its version: give its wire id with --id")
    return int(version[1]) * 100 + int(version[2])
