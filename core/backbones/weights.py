"""Where weights are looked for, how files are read, and what is said when they are missing."""

import contextlib
import logging
import pickle
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor

from ..errors import TTDError
from ..utils.files import expanded, is_there
from ..utils.finite import is_finite
from ..utils.shipped import own_weights
from ..utils.tensors.file_kinds import NOT_WEIGHTS, file_kind
from ..utils.tensors.pickled_values import Global, TensorRef, Unknown
from ..utils.tensors.torch_files import TorchFile, read_torch_file
from ..utils.tensors.torchscript import script_state

OPENAI_MODEL = "ViT-B-16-quickgelu"
OPENAI_NUMBERS = ("input_resolution", "context_length", "vocab_size")  # in its archives
STATE_NAMES = ("state_dict", "model_state_dict", "model")  # of weights inside checkpoints
WRAPPERS = ("module.", "_orig_mod.")
INDICES = ("position_ids", "num_batches_tracked")  # integer buffers, which decide nothing
OBJECTS = (Unknown, Global)
OFFLINE_HINT = "or use --arch tiny, which ships with the project"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The dict in a safetensors or torch file, tensors on the CPU; nothing in it is executed.

    What the file is, is told by its content, not by its name. Of a file that holds other objects
    beside its tensors (a training checkpoint with its settings), only plain data and tensors are
    taken.

    Errors: TTDError for files that are missing, damaged, or something else.
    """
    path = weight_file(path)
    with reading(path):
        kind = file_kind(path)
        if kind == "torchscript":
            raise TTDError(
                f"{path} is a TorchScript archive, a compiled model: only OpenAI's CLIP files of "
                "this form are supported, as MODEL:/path/to/file"
            )
        if kind == "npz":
            raise TTDError(
                f"{path} holds numpy's arrays: of these, big_vision's SigLIP is supported, as "
                "MODEL:/path/to/file, and TIPSv2, as tips:/FOLDER"
            )
        if kind == "safetensors":
            from safetensors.torch import load_file

            tensors: dict[str, Any] = load_file(path)
            return tensors
        content = _torch_content(path)
    if not isinstance(content, dict):
        raise TTDError(
            f"{path} holds a {type(content).__name__}, not a dict of tensors: re-save the state "
            "dict"
        )
    return content


def _torch_content(path: Path) -> Any:
    """What torch.save stored: by torch's own safe reader, else as data without what is no data."""
    try:
        with path.open("rb") as file:  # by content: torch.load goes by the name of a path
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        stored = read_torch_file(path)
        return _as_tensors(stored.data, stored)


def _as_tensors(value: Any, stored: TorchFile) -> Any:
    """Nested data with tensors in the place of their descriptions; objects are left out."""
    if isinstance(value, TensorRef):
        return stored.tensor(value)
    if isinstance(value, dict):
        known = {key: item for key, item in value.items() if not isinstance(item, OBJECTS)}
        return {key: _as_tensors(item, stored) for key, item in known.items()}
    if isinstance(value, list | tuple):
        return [_as_tensors(item, stored) for item in value if not isinstance(item, OBJECTS)]
    return value


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a model's file by name, float or checked to be harmless, on the CPU.

    OpenAI's TorchScript archives are read as data, too. A training checkpoint's tensors
    are found under `state_dict`, `model_state_dict` or `model`; the prefixes that DistributedData-
    Parallel and torch.compile put before every name are taken off. Tensors keep the file's types
    and shapes [...].

    Errors: TTDError as `read_checkpoint`, and as `check_tensors`.
    """
    path = existing_file(path)
    if is_torchscript(path):
        state = script_state(path)
        state = {name: value for name, value in state.items() if name not in OPENAI_NUMBERS}
    else:
        state = _inner_state(read_checkpoint(path))
    check_tensors(state, path)
    return state


def _inner_state(content: dict[str, Any]) -> dict[str, Any]:
    """The state dict inside a checkpoint, without the prefixes of wrappers."""
    for name in STATE_NAMES:
        if isinstance(content.get(name), dict):
            content = content[name]
            break
    for prefix in WRAPPERS * 2:  # either may be around the other
        if content and all(str(name).startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): value for name, value in content.items()}
    return content


def existing_file(path: str | Path) -> Path:
    """`path` with `~` expanded; a TTDError where there is no such file."""
    path = expanded(path)
    if not is_there(path) or not path.is_file():
        raise TTDError(f"no weight file at {path}: check the path, {OFFLINE_HINT}")
    return path


def weight_file(path: str | Path) -> Path:
    """`existing_file` that may hold weights: nothing that is plainly something else.

    Told before a model is built for it, which takes long. TTDError saying what it is.
    """
    path = existing_file(path)
    with reading(path):
        kind = file_kind(path)
        if kind in NOT_WEIGHTS:
            raise TTDError(f"{path} {NOT_WEIGHTS[kind]}")
    return path


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn whatever a reader of weight files raises into one TTDError about `path`."""
    try:
        yield
    except TTDError:
        raise
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
    return file_kind(path) == "torchscript"


def openai_clip_file() -> Path:
    """OpenAI's ViT-B/16 weights: weights/ViT-B-16.pt, then open_clip's caches, then downloaded.

    Errors: TTDError where there is none of these; it names the file, the places, the source and
        the offline default.
    """
    import open_clip
    from open_clip.pretrained import download_pretrained, download_pretrained_from_url

    config = open_clip.get_pretrained_cfg(OPENAI_MODEL, "openai")
    ours = own_weights() / "ViT-B-16.pt"
    for path in (ours, Path("~/.cache/clip/ViT-B-16.pt").expanduser()):
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
        f"OpenAI's CLIP weights ViT-B-16.pt are missing: looked for {ours}, then in "
        "open_clip's cache (~/.cache/clip and Hugging Face's), then tried to download them "
        f"({reason}). Get {config['url']} and put it into {ours.parent}, {OFFLINE_HINT}"
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
    """TTDError unless `state` is a dict of tensors by name, not empty, and every number finite.

    Integer, complex, sparse, quantized and meta tensors are no weights of the models here.
    """
    if not isinstance(state, dict):
        raise TTDError(
            f"{path} holds a {type(state).__name__} where a dict of tensors must be: re-save the "
            "state dict"
        )
    invalid = [
        str(name)
        for name, value in state.items()
        if not isinstance(name, str) or not isinstance(value, Tensor)
    ]
    if invalid or not state:
        reason = ", ".join(invalid[:5]) or "it is empty"
        raise TTDError(
            f"{path} holds no flat mapping from names to tensors ({reason}): re-save the model's "
            "state_dict() alone"
        )
    for name, value in state.items():
        if problem := _problem(name, value):
            raise TTDError(f"{path}: tensor {name} {problem}; the file is damaged or no weights")


def _problem(name: str, value: Tensor) -> str:
    """Why a tensor cannot be a weight, "" where it can."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return "is sparse, quantized or without data"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "is larger than the numbers that the file holds of it"
    if not value.is_floating_point():
        return "" if name.endswith(INDICES) else f"holds {str(value.dtype).removeprefix('torch.')}"
    if not is_finite(value):
        return "is not finite (NaN or infinity)"
    return ""
