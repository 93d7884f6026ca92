"""Files of the Hugging Face Hub: `hf-hub:ORG/NAME`, or `hf-hub:ORG/NAME@REVISION`.

A revision is a branch, a tag or a commit; a commit names the same bytes for ever. What was fetched
once is read from the cache without a network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import TTDError
from .weights import hub, shorten

PREFIX = "hf-hub:"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,199}", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """A repository of models, and the revision that is wanted; None: its main branch."""

    repo: str
    revision: str | None = None


def is_hub_name(source: str | Path | None) -> bool:
    """Whether a path is none, but the name of a repository."""
    return str(source).startswith(PREFIX)


def hub_name(source: str | Path) -> HubName:
    """`hf-hub:ORG/NAME[@REVISION]` in its parts. TTDError where it has another form."""
    repo, at, revision = str(source).removeprefix(PREFIX).partition("@")
    if not NAME.fullmatch(repo) or ".." in repo:
        raise TTDError(f"{str(source)[:200]!r}: write hf-hub:ORG/NAME or hf-hub:ORG/NAME@REVISION")
    if at and (not REVISION.fullmatch(revision) or ".." in revision):
        raise TTDError(f"{str(source)[:200]!r}: {revision[:80]!r} is no branch, tag or commit")
    return HubName(repo, revision or None)


def hub_folder(source: str | Path, files: Sequence[str], what: str) -> Path:
    """The folder of a repository's files in the cache, fetched where they are not there.

    files: their names; one of them must be in it. what: it holds, for messages. TTDError in one
    line: no such repository, revision or file, no permission, no network.
    """
    from huggingface_hub import snapshot_download

    name = hub_name(source)
    try:
        with hub():
            folder = Path(
                snapshot_download(name.repo, revision=name.revision, allow_patterns=list(files))
            )
    except Exception as error:
        raise TTDError(
            f"{what} {source} could not be fetched ({shorten(error)}): check name and network; a "
            "private or gated repository needs a token (HF_TOKEN, or `hf auth login`)"
        ) from None
    if not any((folder / file).is_file() for file in files):
        raise TTDError(
            f"{source}: no {' or '.join(files)} in it, so it is no {what} of this project"
        )
    return folder


def hub_file(source: str | Path, file: str, what: str) -> Path:
    """One file of a repository. TTDError as `hub_folder`."""
    return hub_folder(source, [file], what) / file
