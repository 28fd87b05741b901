"""`tocsin bench score`: every model is timed, and a GPU that is not there is said."""

import json

import pytest
import torch
from click.testing import CliRunner

from broker.cli.main import tocsin


def test_every_model_is_timed_at_every_size() -> None:
    arguments = ["bench", "score", "--device", "cpu", "--batch", "8", "--batch", "64", "--repeats", "1", "--json"]
    done = CliRunner().invoke(tocsin, arguments)
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    assert found["device"] == "cpu, one core"
    assert found["matmul_gflops"] > 1
    for survey in ("ztf", "lsst"):
        parts = found["ms_per_alert"][survey]
        names = {"gru", "transformer", "anomaly"}
        assert set(parts) == {f"{survey}-{name}" for name in names} | {
            "networks",
            "autoencoder",
            "forest",
            "judge",
            "all",
        }
        assert all(set(sizes) == {"8", "64"} and min(sizes.values()) > 0 for sizes in parts.values())
        assert parts["all"]["64"] > 0.5 * parts["networks"]["64"] > 0.25 * parts[f"{survey}-transformer"]["64"]


def test_without_a_gpu_cuda_fails() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = CliRunner().invoke(tocsin, ["bench", "score", "--device", "cuda"])
    assert "torch finds no GPU" in str(done.exception)
    assert done.exit_code == 1


@pytest.mark.gpu
def test_a_gpu_is_timed() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    done = CliRunner().invoke(tocsin, ["bench", "score", "--device", "cuda", "--batch", "256", "--json"])
    assert json.loads(done.stdout)["device"] == torch.cuda.get_device_name()
