"""Shared fixtures. No test may reach the network; only tests marked `gpu` see a GPU."""

import os
import signal
import sys

# Before any import of the hub's client, which reads it once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--gpu-device",
        default="cuda",
        metavar="DEVICE",
        help="where tests marked gpu compute: cuda, or cpu to rehearse them without a GPU",
    )


def pytest_configure(config):
    """Hide GPUs from the other tests: their oracles are on the CPU, and so is what they load."""
    if "gpu" not in (config.option.markexpr or ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def interrupts():
    """What a script's own handling of Ctrl-C leaves behind must not meet the next test."""
    handler, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    yield
    signal.signal(signal.SIGINT, handler)
    sys.unraisablehook = hook


@pytest.fixture(scope="session")
def gpu(request):
    """The device of a test marked `gpu`: cuda, or cpu with --gpu-device cpu."""
    import torch

    name = request.config.getoption("--gpu-device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device is seen: pytest -m gpu where there is one, or --gpu-device cpu")
    return name


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory):
    """Folder of a small random CLIP (32 px, patch 8, D = 24) with the full vocabulary."""
    from small_clip import model_config, write_clip

    folder = tmp_path_factory.mktemp("small_clip")
    write_clip(folder, model_config(text={"vocab_size": 49408}), seed=1)
    return folder


@pytest.fixture(scope="session")
def small_tcl(tmp_path_factory):
    """Path of a small random TCL checkpoint with all its keys (`small_tcl.small_weights`)."""
    from small_tcl import save, small_weights

    return save(tmp_path_factory.mktemp("small_tcl") / "tcl.pth", small_weights())


@pytest.fixture(scope="session")
def tcl(small_tcl):
    """That checkpoint as a backbone; do not change it."""
    from core.backbones import load_backbone

    return load_backbone("TCL", weights=small_tcl)
