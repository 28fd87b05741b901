"""``tocsin config``: look at settings before they are used."""

from __future__ import annotations

import json
from pathlib import Path

import click

from broker.core.config import load, masked


@click.group()
def config() -> None:
    """Check or show the configuration.

    \b
    Example:
      tocsin config check --config ztf.toml
    """


@config.command()
@click.option("--config", "path", type=click.Path(path_type=Path), help="TOML file; without it, the defaults.")
def check(path: Path | None) -> None:
    """Say whether a configuration is valid; exit 1 with every wrong key if not.

    \b
    Example:
      tocsin config check --config ztf.toml
    """
    load(path)
    click.echo(f"{path or 'defaults and environment'}: valid")


@config.command()
@click.option("--config", "path", type=click.Path(path_type=Path), help="TOML file; without it, the defaults.")
def show(path: Path | None) -> None:
    """Print the settings as they will be used, environment included, as JSON; secrets are masked.

    \b
    Example:
      tocsin config show --config ztf.toml
    """
    click.echo(json.dumps(masked(load(path)), indent=2))
