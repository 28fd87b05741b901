"""``tocsin warm``: compile what is compiled on first use, so that the first alert does not wait for it."""

from __future__ import annotations

import time

import click


@click.command()
def warm() -> None:
    """Compile the decoder and the Gaussian process and load the networks once; later starts use the cache.

    \b
    Example:
      tocsin warm
    """
    from broker.archive import simulate
    from broker.cli import assemble
    from broker.core.batch import FilePacket
    from broker.core.config import load
    from broker.core.metrics import Recorded
    from broker.gp import warm as warm_gp

    began = time.monotonic()
    warm_gp()
    settings = load()
    simulate.install_schema(settings.run.cache_dir / "schemas")
    pipeline = assemble.pipeline(settings, Recorded())
    for survey in ("ztf", "lsst"):
        packets = [FilePacket("warm", i, p.value) for i, p in enumerate(simulate.night(survey, objects=4, seed=0))]
        pipeline(assemble.batch_of(packets))
    click.echo(f"compiled and loaded in {time.monotonic() - began:.1f} s")
