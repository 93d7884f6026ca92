"""`_protocol.json`: which settings made what is in an output, so that no others are mixed in."""

from __future__ import annotations

import json
from typing import Any

from ..errors import TTDError
from ..utils.files import differences
from ..utils.provenance import versions
from .labeller import digest_of
from .places import Output

PROTOCOL, FAILED = "_protocol.json", "_failed"
ENDINGS = (".parquet", ".json", ".tar")  # of what is written


def claim(out: Output, identity: dict[str, Any], overwrite: bool = False) -> None:
    """Say in the output which settings made it.

    TTDError: others did, without `overwrite`; or there are files of somebody else, which labels of
    the same names would replace (img2dataset has NAME.parquet beside its tars).
    """
    content = out.read(PROTOCOL)
    if content is None and (others := _others(out)):
        content = out.read(PROTOCOL)  # another worker may have begun since
        if content is None:
            raise TTDError(
                f"{out}: files that are no labels are in it ({others[0]}); choose another --out"
            )
    stored = None if content is None else parsed(content).get("identity")
    asked = json.loads(json.dumps(identity))
    if stored == asked:
        return
    if content is not None and not overwrite:
        named = "; ".join(differences(stored, asked)) if isinstance(stored, dict) else "damaged"
        raise TTDError(
            f"{out}/{PROTOCOL}: the labels there were made with other settings ({named}); choose "
            "another --out or add --overwrite"
        )
    out.write(PROTOCOL, as_bytes({"identity": identity, "versions": versions()}))


def _others(out: Output) -> list[str]:
    """Files of an output without a protocol that a run would replace or take for its own."""
    names = (name for name in out.sizes() if not name.startswith(f"{FAILED}/"))
    return [name for name in names if name.lower().endswith(ENDINGS)]


def digest_of_set(out: Output) -> str:
    """The digest of the settings that made what is in an output, "" where nothing says."""
    identity = parsed(out.read(PROTOCOL) or b"").get("identity")
    return digest_of(identity) if isinstance(identity, dict) else ""


def as_bytes(content: dict[str, Any]) -> bytes:
    """An object as the JSON that lies in an output."""
    return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode()


def parsed(content: bytes) -> dict[str, Any]:
    """The object in JSON bytes, {} for anything else."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
