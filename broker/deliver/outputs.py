"""What was delivered, read back: annotations or results, dead letters and ledger records, of a directory or Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import fastavro

from broker.core.bands import SURVEYS
from broker.core.errors import TocsinError
from broker.core.topics import Topics
from broker.deliver import parquet
from broker.deliver.files import FOLDERS, MANIFEST, read_manifest
from broker.deliver.kafka.ends import oldest_kept, settle
from broker.deliver.kafka.reader import read_messages, read_records

PRIMARY = ("annotation", "result")


class Outputs(Protocol):
    """Where outcomes were delivered to."""

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Yield every annotation of an ``all`` topic, and every result: the record of each packet's end.

        Of what lies in flat columns only what `broker.deliver.parquet.records` gives back.
        """
        ...

    def dead_letters(self) -> Iterator[dict[str, Any]]:
        """Yield every dead letter."""
        ...

    def ledgers(self) -> Iterator[dict[str, Any]]:
        """Yield every ledger record."""
        ...

    def forgotten(self) -> tuple[int, int]:
        """Return before when outputs, and before when ledger records, may have been deleted, Unix ms; 0 for never."""
        ...


@dataclass(frozen=True, slots=True)
class DirectoryOutputs:
    """The committed segments of a directory (`broker.deliver.files.FileSink`)."""

    directory: Path

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Yield every annotation or result."""
        for name in PRIMARY:
            yield from self._records(FOLDERS[name])

    def dead_letters(self) -> Iterator[dict[str, Any]]:
        """Yield every dead letter."""
        return self._records(FOLDERS["deadletter"])

    def ledgers(self) -> Iterator[dict[str, Any]]:
        """Yield the ledger record of every line of the manifest.

        Raises
        ------
        TocsinError
            The directory has no manifest.
        """
        if not (self.directory / MANIFEST).exists():
            raise TocsinError(f"{self.directory} has no {MANIFEST}: it is not the output of a replay")
        for line, _ in read_manifest(self.directory):
            yield line["ledger"]

    def forgotten(self) -> tuple[int, int]:
        """Return that nothing is ever deleted."""
        return 0, 0

    def is_flat(self) -> bool:
        """Tell whether there are annotations or results in Parquet."""
        names = (name for line, _ in read_manifest(self.directory) for name in line["segments"])
        return any(name.endswith(".parquet") for name in names)

    def _records(self, folder: str) -> Iterator[dict[str, Any]]:
        for line, _ in read_manifest(self.directory):
            for name in line["segments"]:
                if name.startswith(folder + "/"):
                    yield from _of_segment(self.directory / name)


def _of_segment(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file that a manifest names.

    Raises
    ------
    TocsinError
        It is not there, or damaged.
    """
    try:
        if path.suffix == ".parquet":
            yield from parquet.records(path)
        else:
            with path.open("rb") as segment:
                yield from fastavro.reader(segment)
    except FileNotFoundError as error:
        raise TocsinError(
            f"{path} is not there, and {MANIFEST} says that it was written: what it held is lost"
        ) from error
    except Exception as error:  # damage makes both readers fail in many ways
        raise TocsinError(f"{path} is damaged: {error or repr(error)}") from error


@dataclass(frozen=True, slots=True)
class KafkaOutputs:
    """The committed messages under one prefix, from the beginning to the end as it is when each reading starts."""

    config: dict[str, Any]
    topics: Topics

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Yield every annotation of every survey's ``all`` topic, and every result."""
        settle(self.config, self._annotated)
        return (record for record, _ in read_records(self.config, self._annotated, "annotation"))

    def dead_letters(self) -> Iterator[dict[str, Any]]:
        """Yield every dead letter."""
        settle(self.config, [self.topics.dead_letters])
        return (record for record, _ in read_records(self.config, [self.topics.dead_letters], "deadletter"))

    def ledgers(self) -> Iterator[dict[str, Any]]:
        """Yield every ledger record."""
        settle(self.config, [self.topics.ledger])
        return (record for record, _ in read_records(self.config, [self.topics.ledger], "ledger"))

    def forgotten(self) -> tuple[int, int]:
        """Return before when Kafka may have deleted outputs, and ledger records."""
        outputs = oldest_kept(self.config, [*self._annotated, self.topics.dead_letters])
        return outputs, oldest_kept(self.config, [self.topics.ledger])

    @property
    def _annotated(self) -> list[str]:
        return [*(self.topics.all(survey) for survey in SURVEYS), self.topics.results]

    def sources(self, names: list[str]) -> Iterator[tuple[str, int, int]]:
        """Yield (topic, partition, offset) of every packet on the source topics ``names``."""
        for message in read_messages(self.config, names):
            yield message.topic(), message.partition(), message.offset()
