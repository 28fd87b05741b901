"""What a directory of outputs was made of, so that ``tocsin ledger`` can count it again."""

from __future__ import annotations

from pathlib import Path

from broker.core.errors import TocsinError

INPUTS = "inputs.txt"
"""File in a replay's directory: absolute paths and ``kafka:TOPIC`` that it was given, one a line, over all its runs."""
PART, ROUNDS = "# a part of it", "# several rounds"
KAFKA = "kafka:"


def note_inputs(directory: Path, names: list[str], *, whole: bool = True, rounds: bool = False) -> None:
    """Remember what a replay was given, so that an input that was never read is missed.

    A replay of all that was noted makes parts whole; several rounds stay.

    Raises
    ------
    TocsinError
        It cannot be written.
    """
    make(directory)
    given = dict.fromkeys([*noted_inputs(directory), *names, *([] if whole else [PART]), *([ROUNDS] if rounds else [])])
    if whole and set(names) >= given.keys() - {PART, ROUNDS}:
        given.pop(PART, None)
    write_note(directory / INPUTS, "".join(f"{path}\n" for path in given))


def noted_inputs(directory: Path) -> list[str]:
    """Return what was noted, with `PART` and `ROUNDS`; nothing where nothing was.

    Raises
    ------
    TocsinError
        It cannot be read.
    """
    path = directory / INPUTS
    try:
        return path.read_text().splitlines() if path.exists() else []
    except (OSError, ValueError) as error:
        raise TocsinError(f"{path} is damaged ({error}): remove it, and run the command that made it again") from error


def check_form(directory: Path, schema: str, form: str) -> None:
    """Refuse to go on with a directory's annotations or results (``schema``) in another form: avro or parquet.

    Raises
    ------
    TocsinError
    """
    from broker.deliver.files import FOLDERS, read_manifest

    segments = (Path(name) for line, _ in read_manifest(directory) for name in line["segments"])
    forms = {path.suffix.removeprefix(".") for path in segments if path.parent.name == FOLDERS[schema]}
    if forms and form not in forms:
        told = f"{directory} was made with --format {forms.pop()}; this is with --format {form}"
        raise TocsinError(f"{told}: take another directory")


def make(directory: Path) -> None:
    """Make a directory, and those above it, where it is not there.

    Raises
    ------
    TocsinError
        That is not allowed, or a file is in the way.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TocsinError(f"cannot make {directory}: {error.strerror}") from error


def write_note(path: Path, text: str) -> None:
    """Write a file, if that changes it, so that a process that is killed leaves the old one or the new one.

    Raises
    ------
    TocsinError
        It cannot be written.
    """
    from broker.deliver.files import write_whole

    try:
        if not path.exists() or path.read_bytes() != text.encode():
            write_whole(path, text.encode())
    except OSError as error:
        raise TocsinError(f"cannot write {path}: {error.strerror}") from error
