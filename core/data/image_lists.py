"""Which images a user means: files, folders, glob patterns, and JSONL lists with captions."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import TTDError
from ..utils.files import expanded, is_there, regular_text
from ..utils.shown import first_few

SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif",
    ".jp2", ".ppm", ".pgm", ".pbm", ".tga", ".ico",
))  # fmt: skip
LISTS = (".jsonl", ".ndjson")


class Listed(NamedTuple):
    """One image to work on and the captions that came with it (none for plain files)."""

    path: Path
    texts: tuple[str, ...] = ()


def list_images(inputs: Sequence[str | Path]) -> list[Listed]:
    """The images that files, folders, glob patterns and JSONL lists name, in the order given.

    A folder gives the images directly in it, sorted by name. A JSONL line is `{"image": path,
    "text": str}` or `{"image": path, "captions": [str, ...]}`; its path is relative to the JSONL's
    folder or to `images/` or `image/` beside it. An image that a JSONL names and that is missing
    stays in the list (reading it will say so), unless all of them are missing.
    Raises TTDError: inputs that do not exist (all in one line), a folder without images, a bad
    JSONL line.
    """
    listed: list[Listed] = []
    missing: list[str] = []
    for item in inputs:
        paths = _expand(item) if str(item) else []
        if not paths:
            missing.append(str(item) or "'' (an empty name)")
        for path in paths:
            listed += _read_jsonl(path) if path.suffix.lower() in LISTS else [Listed(path)]
    if missing:
        raise TTDError(f"no such file, folder or pattern: {first_few(missing)}; check the path")
    return listed


def find_beside(folder: Path, name: str) -> Path:
    """Where an image of a list in `folder` is: the first that exists, else folder/name.

    Tried are folder/name, folder/images/name, folder/image/name.
    """
    candidates = [folder / name, folder / "images" / name, folder / "image" / name]
    return next((path for path in candidates if is_there(path)), candidates[0])


def _expand(item: str | Path) -> list[Path]:
    """The files behind one input: itself, a folder's images, a pattern's matches; [] for none."""
    path = expanded(item)
    try:
        if path.is_dir():
            return _folder(path)
        if path.exists():
            return [path]
    except (OSError, ValueError):  # no permission on the way, a name too long, a NUL byte
        return []
    if not glob.has_magic(str(path)):
        return []
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    wanted = SUFFIXES | {".jsonl"}
    return [match for match in found if match.suffix.lower() in wanted and match.is_file()]


def _folder(folder: Path) -> list[Path]:
    """The images directly in `folder`, sorted by name, without hidden files."""
    try:
        entries = sorted(folder.iterdir())
    except PermissionError:
        raise TTDError(
            f"{folder}: no permission to list this folder; change its permissions (chmod +rx)"
        ) from None
    visible = (path for path in entries if not path.name.startswith("."))
    images = [path for path in visible if path.suffix.lower() in SUFFIXES]
    if not images:
        raise TTDError(
            f"{folder}: no images directly in this folder; "
            f"for subfolders use a pattern: '{folder}/**/*'"
        )
    return images


def _read_jsonl(path: Path) -> list[Listed]:
    """All lines of a JSONL list; errors name file:line."""
    lines = regular_text(path).split("\n")  # splitlines() would also cut at U+2028
    listed = list(_parse_lines(path, lines))
    if not listed:
        raise TTDError(f'{path}: no lines; each must be {{"image": path, "text": caption}}')
    absent = [str(item.path) for item in listed if not is_there(item.path)]
    if len(absent) == len(listed):
        raise TTDError(
            f"{path}: none of its images is there: {first_few(absent)}; "
            f"put them in {path.parent}/images"
        )
    return listed


def _parse_lines(path: Path, lines: Sequence[str]) -> Iterator[Listed]:
    """A `Listed` per non-blank line. TTDError with file:line for anything else than both forms."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TTDError(f"{where}: not JSON ({error}); write one object a line") from None
        name = row.get("image") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name:
            raise TTDError(
                f'{where}: no "image" with a path; a line is {{"image": path, "text": caption}}'
            )
        texts = tuple(text for text in _texts(row, where) if text.strip())
        yield Listed(find_beside(path.parent, name), texts)


def _texts(row: dict[str, Any], where: str) -> list[str]:
    """The captions of a line, [] where it has none. TTDError for anything but strings."""
    texts = [row["text"]] if "text" in row else []
    if "captions" in row:
        texts = row["captions"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TTDError(f'{where}: "text" must be a string and "captions" a list of strings')
    return texts
