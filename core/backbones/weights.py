"""Where weights are looked for, how files are read, and what is said when they are missing."""

import contextlib
import logging
import pickle
import socket
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor

from ..errors import TTDError

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights"
OPENAI_MODEL = "ViT-B-16-quickgelu"
OPENAI_FILE = WEIGHTS / "ViT-B-16.pt"
OFFLINE_HINT = "or use --arch tiny, which ships with the project"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The dict in a safetensors or torch file, tensors on the CPU; never unpickles code.

    Errors: TTDError for files that are missing, damaged, no dict, or holding pickled objects.
    """
    path = existing_file(path)
    with reading(path):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors: dict[str, Any] = load_file(path)
            return tensors
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise TTDError(
            f"{path} holds a {type(content).__name__}, not a dict of tensors: re-save the state "
            "dict"
        )
    return content


def existing_file(path: str | Path) -> Path:
    """`path` with `~` expanded; a TTDError where there is no such file."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise TTDError(f"no weight file at {path}: check the path, {OFFLINE_HINT}")
    return path


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn whatever a reader of weight files raises into one TTDError about `path`."""
    try:
        yield
    except TTDError:
        raise
    except pickle.UnpicklingError:
        raise TTDError(
            f"{path} holds pickled objects beside its tensors (a training checkpoint with its "
            "config?); that is code, so it is not loaded. Where you trust the file, re-save its "
            "weights alone: "
            "torch.save({'model': torch.load(path, weights_only=False)['model']}, new_path)"
        ) from None
    except RuntimeError as error:
        if "Error(s) in loading state_dict" in str(error):
            raise TTDError(
                f"the weights in {path} do not fit the model: {shorten(error)}"
            ) from None
        raise _unreadable(path, error) from None
    except Exception as error:  # damaged files raise whatever their format's reader meets first
        raise _unreadable(path, error) from None


def _unreadable(path: str | Path, error: Exception) -> TTDError:
    return TTDError(
        f"{path} is not a readable weight file, was its download cut short? ({shorten(error)})"
    )


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, as OpenAI's own CLIP files are."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def openai_clip_file() -> Path:
    """OpenAI's ViT-B/16 weights: weights/ViT-B-16.pt, then open_clip's caches, then downloaded.

    Errors: TTDError where there is none of these; it names the file, the places, the source and
        the offline default.
    """
    import open_clip
    from open_clip.pretrained import download_pretrained, download_pretrained_from_url

    config = open_clip.get_pretrained_cfg(OPENAI_MODEL, "openai")
    for path in (OPENAI_FILE, Path("~/.cache/clip/ViT-B-16.pt").expanduser()):
        if path.is_file():
            return path
    sources = ((download_pretrained, config), (download_pretrained_from_url, config["url"]))
    for fetch, source in sources:
        try:
            with hub():
                return Path(fetch(source))
        except Exception as error:
            reason = shorten(error)
    raise TTDError(
        f"OpenAI's CLIP weights ViT-B-16.pt are missing: looked for {OPENAI_FILE}, then in "
        "open_clip's cache (~/.cache/clip and Hugging Face's), then tried to download them "
        f"({reason}). Get {config['url']} and put it into {WEIGHTS}, {OFFLINE_HINT}"
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Mute log lines and warnings of the libraries that load weights.

    What they warn of is checked by the callers.
    """
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


@contextlib.contextmanager
def hub() -> Iterator[None]:
    """For calls that may download: quiet, and offline at once where there is no network.

    The hub's client would retry for a minute.
    """
    from huggingface_hub import constants

    previous = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = previous or not _reachable(constants.ENDPOINT)
    try:
        with quiet():
            yield
    finally:
        constants.HF_HUB_OFFLINE = previous


def _reachable(url: str) -> bool:
    if getproxies():
        return True  # a proxy resolves names for us: only the request itself can tell
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def shorten(error: Exception, limit: int = 400) -> str:
    """An exception as one short line: its type and message."""
    text = " ".join(str(error).split()) or "no message"
    if len(text) > limit:
        text = text[:limit] + "..."
    return f"{type(error).__name__}: {text}"


def check_tensors(state: Any, path: str | Path) -> None:
    """TTDError unless `state` is a dict of tensors by name, and not empty."""
    if not isinstance(state, dict):
        raise TTDError(
            f"{path} holds a {type(state).__name__} where a dict of tensors must be: re-save the "
            "state dict"
        )
    invalid = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if invalid or not state:
        reason = ", ".join(invalid[:5]) or "it is empty"
        raise TTDError(
            f"{path} holds no flat mapping from names to tensors ({reason}): re-save the model's "
            "state_dict() alone"
        )
