"""open_clip's tokenizer for a model: CLIP's, one of a model's folder, or one of the Hub's.

SigLIP 2, MetaCLIP 2 and others have tokenizers of Hugging Face's form, whose files are on the Hub
and not in the weight file. They are looked for in a model's folder, beside a weight file that the
user named, and then in the Hub's cache or on the Hub.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import TTDError
from ..openclip_config import folder_config, hub_config
from ..weights import OFFLINE_HINT, hub, shorten

Tokenize = Callable[[list[str]], Tensor]
# Files of a model's folder that its tokenizer may be made of
VOCABULARIES = (".json", ".txt", ".gz", ".model")
HUB_FILES = ("tokenizer.json", "tokenizer_config.json")
SAFE = {"trust_remote_code": False}  # no code of a repository runs


class Tokenizer:
    """open_clip's tokenizer for a model, made at the first call.

    Some need a download, which those who bring token ids can do without.
    """

    def __init__(self, name: str, beside: Path | None = None):
        """A tokenizer by the model's name.

        Args:
            name: open_clip's name of the model, `hf-hub:ORG/NAME` or `local-dir:/path`.
            beside: a folder where the files of a tokenizer of the Hub's are looked for first.
        """
        self._name = name
        folder = Path(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else beside
        self._folder = folder
        self._made: Tokenize | None = None
        self._end: int | None = None

    def __call__(self, texts: list[str]) -> Tensor:
        """Strings -> token ids [N, L].

        Errors: TTDError where a download is needed and fails, and for a tokenizer that is not this
            model's.
        """
        made = self._tokenize()
        try:
            tokens = made(texts)
        except (TypeError, ValueError, KeyError) as error:
            raise TTDError(
                f"the tokenizer of {self._name} cannot encode texts ({shorten(error)}): it needs "
                f"{' and '.join(HUB_FILES)} of one model"
            ) from None
        if self._end is not None and not bool(tokens.eq(self._end).any(dim=1).all()):
            raise TTDError(
                f"the tokenizer of {self._name} ends texts without the token {self._end} that this "
                "model reads: its files are another model's"
            )
        return tokens

    @property
    def merges(self) -> bytes | None:
        """Byte-pair merges of its own, gzipped; None: CLIP's. TTDError where it has no merges."""
        import open_clip

        if not isinstance(self._tokenize(), open_clip.SimpleTokenizer):
            raise TTDError(f"{self._name}: its tokenizer is not CLIP's byte-pair encoding")
        own = self._own_merges()
        return None if own is None else own.read_bytes()

    @property
    def key(self) -> str:
        """What decides its token ids: open_clip's version, and the files of a local folder.

        The tokenizer is not made for it.
        """
        installed = version("open_clip_torch")
        if self._name.startswith("local-dir:"):
            assert self._folder is not None
            return "; ".join(["local-dir", installed, *_digests(self._folder, VOCABULARIES)])
        found = [] if self._folder is None else _digests(self._folder, HUB_FILES)
        if found and self._hub_name():
            return "; ".join([self._name, installed, *found])
        return f"{self._name}; {installed}"

    def _tokenize(self) -> Tokenize:
        if self._made is None:
            self._made, self._end = self._make()
        return self._made

    def _make(self) -> tuple[Tokenize, int | None]:
        """The tokenizer, and for one of the Hub's the id of the end token that the model reads."""
        import open_clip

        try:
            with hub():
                text = self._text_config()
                own = self._own_merges()
                if own is not None:  # a vocabulary smaller than CLIP's
                    length = int(text.get("context_length", 77))
                    return open_clip.SimpleTokenizer(bpe_path=str(own), context_length=length), None
                if not text.get("hf_tokenizer_name"):
                    return open_clip.get_tokenizer(self._name), None
                return self._hub_tokenizer(text), _end_token(text)
        except Exception as error:
            raise TTDError(self._advice(error)) from None

    def _hub_tokenizer(self, text: dict[str, Any]) -> Tokenize:
        """Hugging Face's tokenizer from a folder, the Hub's cache or the Hub, by `text_cfg`."""
        import open_clip
        from open_clip.tokenizer import HFTokenizer

        made: Any
        if self._name.startswith("local-dir:") or not self._has_files():
            made = open_clip.get_tokenizer(self._name, **SAFE)
        else:
            cleaning = text.get("tokenizer_kwargs") or {}
            length, mode = text.get("context_length", 77), text.get("tokenizer_mode")
            made = HFTokenizer(
                self._folder, context_length=length, tokenizer_mode=mode, **{**cleaning, **SAFE}
            )
        # Not every class's default, but how all these models were trained.
        if hasattr(made, "tokenizer"):
            made.tokenizer.padding_side = "right"
        tokenize: Tokenize = made
        return tokenize

    def _has_files(self) -> bool:
        """Whether the folder has files of a tokenizer of Hugging Face's."""
        return self._folder is not None and (self._folder / HUB_FILES[0]).is_file()

    def _text_config(self) -> dict[str, Any]:
        """The checked `text_cfg` of the model."""
        import open_clip

        if self._name.startswith("local-dir:"):
            assert self._folder is not None
            config = folder_config(self._folder)["model_cfg"]
        elif self._name.startswith("hf-hub:"):
            config = hub_config(self._name)["model_cfg"]
        else:
            config = open_clip.get_model_config(self._name)
        text: dict[str, Any] = config["text_cfg"]
        return text

    def _hub_name(self) -> str | None:
        try:
            return self._text_config().get("hf_tokenizer_name")
        except Exception:  # the Hub's config is neither cached nor to be had
            return None

    def _own_merges(self) -> Path | None:
        """CLIP-like merges in a model's folder, None where there are none."""
        if not self._name.startswith("local-dir:") or self._folder is None:
            return None
        path = self._folder / "bpe.txt.gz"
        return path if path.is_file() else None

    def _advice(self, error: Exception) -> str:
        """Which files are missing, where they are to be had, and where they go."""
        source = self._hub_name()
        if source is None:
            return (
                f"the tokenizer of {self._name} could not be loaded ({shorten(error)}): it needs "
                f"files from the Hugging Face Hub once, {OFFLINE_HINT}"
            )
        files = f"{' and '.join(HUB_FILES)} of huggingface.co/{source}"
        if self._has_files():
            return (
                f"the tokenizer in {self._folder} could not be read ({shorten(error, 200)}): its "
                f"files are {files}"
            )
        place = self._folder or f"a folder with the weights, used as {self._name}:/FOLDER/WEIGHTS"
        return (
            f"the tokenizer of {self._name} is not on this machine and could not be downloaded "
            f"({shorten(error, 120)}): put {files} into {place}"
        )


def _end_token(text: dict[str, Any]) -> int | None:
    """The id whose place is read as the text's embedding, None where the place is fixed."""
    if text.get("pool_type") != "eos":
        return None
    end: int | None = text.get("eos_id")
    return end


def _digests(folder: Path, kinds: tuple[str, ...]) -> list[str]:
    """Name and SHA-256 of the files of a folder whose names end so; the place does not count."""
    return [
        f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(folder.iterdir())
        if path.name.endswith(kinds) and path.is_file()
    ]
