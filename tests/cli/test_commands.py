"""Every command has help with an example, and exit codes that scripts can use."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from broker.cli.main import COMMANDS, tocsin


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from walk(found, (*path, name))


ALL = dict(walk(tocsin))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_has_an_example_of_itself(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(tocsin, [*path, "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output
    assert "tocsin" in shown.output.split("Example:")[1]


def test_every_command_has_a_line_in_the_list() -> None:
    shown = CliRunner().invoke(tocsin, ["--help"]).output
    for name in COMMANDS:
        assert f"\n  {name} " in shown


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).parent / "tocsin"
    return subprocess.run([command, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_usage_errors_end_with_2(tmp_path: Path) -> None:
    assert call("replay", cwd=tmp_path).returncode == 2
    assert call("nonsense", cwd=tmp_path).returncode == 2


def test_failures_end_with_1_and_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[kafka]\nbroker = 'x'\n")
    for arguments in (("config", "check", "--config", "bad.toml"), ("run",), ("ledger", "nowhere")):
        done = call(*arguments, cwd=tmp_path)
        assert done.returncode == 1, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_replay_never_writes_to_live_topics(tmp_path: Path) -> None:
    (tmp_path / "packet").write_bytes(b"")
    for arguments in ((), ("--topics", "tocsin")):
        done = call("replay", "packet", "--to", "kafka", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert "never writes to live topics" in done.stderr


def test_a_misspelt_target_is_a_usage_error_and_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "packet").write_bytes(b"")
    for arguments in (
        ("--raw", "--to", "kafka"),
        ("--to", "kafka:topic"),
        ("--to", "out", "--topics", "x"),
        ("--raw", "--to", "out", "--dlq-limit", "0.1"),
    ):
        assert call("replay", "packet", *arguments, cwd=tmp_path).returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["packet"]


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = call("run", "--topic", "t", "--brokers", "127.0.0.1:1", "--port", port, cwd=tmp_path)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
