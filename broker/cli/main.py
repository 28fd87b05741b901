"""``tocsin``: every command by name, imported only when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from broker import __version__
from broker.core.errors import TocsinError

# name -> module:command; `tocsin --help` lists them in this order.
COMMANDS = {
    "demo": "broker.cli.demo:demo",
    "run": "broker.cli.run:run",
    "sidecar": "broker.cli.sidecar:sidecar",
    "replay": "broker.cli.replay:replay",
    "diff": "broker.cli.diff:diff",
    "subscribe": "broker.cli.subscribe:subscribe",
    "simulate": "broker.cli.simulate:simulate",
    "recall": "broker.cli.recall:recall",
    "decode": "broker.cli.decode:decode",
    "score": "broker.cli.score:score",
    "ledger": "broker.cli.ledger:ledger",
    "dlq": "broker.cli.dlq:dlq",
    "topics": "broker.cli.topics:topics",
    "schema": "broker.cli.schema:schema",
    "model": "broker.cli.model:model",
    "train": "broker.cli.train:train",
    "evaluate": "broker.cli.evaluate:evaluate",
    "bench": "broker.cli.bench:bench",
    "kafka": "broker.cli.kafka:kafka",
    "config": "broker.cli.config:config",
    "warm": "broker.cli.warm:warm",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for, so that start-up stays quick."""

    def __init__(self, *args: object, lazy: dict[str, str] | None = None, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the table's order."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if there is none of that name."""
        if cmd_name not in self.lazy:
            return None
        module, attribute = self.lazy[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tocsin")
def tocsin() -> None:
    """Tocsin: an alert broker for ZTF and Rubin. Real alerts in, classified alerts out, every packet accounted for.

    \b
    Example:
      tocsin demo
      tocsin replay ztf_public_20180819.tar.gz --to out/
      tocsin run --config ztf.toml
    """


def main() -> None:
    """Run the command line: 0 done, 1 failed, 2 usage."""
    try:
        tocsin.main(standalone_mode=True)
    except TocsinError as error:
        click.echo(f"tocsin: {error}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        click.echo(f"tocsin: this needs {error.name}: pip install 'tocsin[{extra}]'", err=True)
        sys.exit(1)


_EXTRAS = {
    "torch": "broker",
    "safetensors": "broker",
    "prometheus_client": "broker",
    "sklearn": "train",
    "pandas": "train",
    "matplotlib": "train",
    "george": "bench",
    "scipy": "bench",
    "pyarrow": "parquet",
    "zuko": "survey",
    "fsspec": "survey",
    "astropy": "survey",
}
