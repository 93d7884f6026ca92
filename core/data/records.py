"""Images with captions as people have them: folders, JSONL lists, webdataset shards; one stream of records.

Records are cheap: a caption and where its image lies. What cannot be used comes as `Skipped` with
the reason, so that numbers of records never depend on what was readable.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import TTDError
from .images import decode_image, read_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TEXTS = (".txt", ".json")
FORMS = (
    "image/ID.jpg + json_refined/ID.json, image/ID.jpg + json/ID.json, images beside .txt or .json files, "
    "*.jsonl, or webdataset *.tar"
)


@dataclass(frozen=True)
class Packed:
    """A file inside an uncompressed tar: `size` bytes from `offset` on."""

    tar: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The file's bytes."""
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True)
class Record:
    """An image and one caption. `name` is the image relative to the input, `tags` the true ones where known."""

    index: int
    id: str
    image: Path | Packed
    name: str
    text: str
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Skipped:
    """A record that cannot be used, and why."""

    index: int
    id: str
    reason: str


Item = Record | Skipped


@dataclass(frozen=True)
class RecordSet:
    """What an input holds: one line about it, how many records (about, unless `exact`), and a way to walk them."""

    description: str
    count: int
    exact: bool
    walk: Callable[[int], Iterator[Item]]  # from that index on

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        """Records `start` to `stop` (exclusive; None = all), always in the same order."""
        return itertools.islice(self.walk(start), None if stop is None else max(0, stop - start))


def read_record(record: Record) -> np.ndarray:
    """The image of a record, uint8 [H, W, 3] RGB. TTDError naming it when it cannot be read."""
    if isinstance(record.image, Packed):
        return decode_image(record.image.read(), record.name)
    return read_image(record.image)


def open_records(root: str | Path) -> RecordSet:
    """Find out what `root` is and list it: see `FORMS`; for shards also a pattern such as `s/{00000..00009}.tar`.

    Raises TTDError when there is nothing of these forms, which it lists.
    """
    name, path = str(root), Path(root).expanduser()
    if path.is_file():
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            return _jsonl(path)
        if path.suffix.lower() == ".tar":
            return _shards([path], path.parent)
    if path.is_dir():
        return _folder(path)
    tars = sorted({Path(hit) for part in expand_braces(str(path)) for hit in glob.glob(part)})
    if tars and all(tar.suffix.lower() == ".tar" for tar in tars):
        return _shards(tars, Path(os.path.commonpath([tar.parent for tar in tars])))
    if path.exists() or tars:
        raise TTDError(f"{name}: not a list or shard of images with captions; wanted: {FORMS}")
    raise TTDError(f"{name}: no such folder, file or pattern; check the path")


def expand_braces(pattern: str) -> list[str]:
    """`a{00..02}.tar` -> a00.tar, a01.tar, a02.tar; `{x,y}` -> both; anything else stays as it is."""
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if not match:
        return [pattern]
    low, high, names = match.groups()
    values = (
        names.split(",") if names else [f"{i:0{len(low)}d}" for i in range(int(low), int(high) + 1)]
    )
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [rest for value in values for rest in expand_braces(before + value + after)]


def _folder(root: Path) -> RecordSet:
    for base in (root, root / "cc3m_for_evaluation"):
        for kind, texts in (("captions with tags", "json_refined"), ("training pairs", "json")):
            if (base / "image").is_dir() and (base / texts).is_dir():
                return _two_folders(base, texts, kind)
    names = _names(root)
    if tars := [root / name for name in names if name.lower().endswith(".tar")]:
        return _shards(tars, root)
    pairs = _pairs(root, names)
    if pairs is None:
        lists = [name for name in names if name.lower().endswith((".jsonl", ".ndjson"))]
        hint = f"; for the list there, name it: {root / lists[0]}" if lists else ""
        raise TTDError(f"{root}: no images with captions here; wanted: {FORMS}{hint}")
    return pairs


def _two_folders(root: Path, texts: str, kind: str) -> RecordSet:
    """ROOT/image/ID.jpg and ROOT/json/ID.json (training) or ROOT/json_refined/ID.json (with true tags)."""
    images = {
        Path(name).stem: f"image/{name}"
        for name in _names(root / "image")
        if name.lower().endswith(SUFFIXES)
    }
    captions = [
        (Path(name).stem, f"{texts}/{name}")
        for name in _names(root / texts)
        if name.endswith(".json")
    ]
    return _of_captions(root, kind, captions, images)


def _pairs(root: Path, names: Sequence[str]) -> RecordSet | None:
    """A folder of images beside .txt or .json files; where it has none, those of its subfolders. None for none."""
    if not any(name.lower().endswith(SUFFIXES) for name in names):
        below = [name for name in names if (root / name).is_dir()]
        names = [f"{folder}/{name}" for folder in below for name in _names(root / folder)]
    images = {os.path.splitext(name)[0]: name for name in names if name.lower().endswith(SUFFIXES)}
    texts = {
        os.path.splitext(name)[0]: name
        for ending in (".json", ".txt")
        for name in names
        if name.endswith(ending)
    }
    captions = [
        (stem, name)
        for stem, name in sorted(texts.items())
        if stem in images or name.endswith(".txt")
    ]
    return (
        _of_captions(root, "images with captions", captions, images)
        if captions and images
        else None
    )


def _of_captions(
    root: Path, kind: str, captions: list[tuple[str, str]], images: dict[str, str]
) -> RecordSet:
    """One record per caption file (id, name); `images` are the images by id. Names are relative to root."""
    missing, unused = (
        sum(stem not in images for stem, _ in captions),
        len(images.keys() - dict(captions).keys()),
    )

    def walk(start: int) -> Iterator[Item]:
        for index, (stem, name) in enumerate(captions[start:], start):
            if stem in images:
                yield _checked(
                    index,
                    stem,
                    root / images[stem],
                    images[stem],
                    lambda at=root / name: _caption(at),
                )
            else:
                yield Skipped(index, stem, "no image with this name")

    return RecordSet(
        f"{root}: {kind}, {len(captions)} captions; {_lacking(missing, 'captions without an image')}, "
        f"{_lacking(unused, 'images without a caption')}",
        len(captions),
        True,
        walk,
    )


def _caption(path: Path) -> dict:
    """A caption file as {"text": ..., "tags": ...}. Raises ValueError or OSError with the reason."""
    return _content(path.read_bytes(), path.suffix)


def _content(data: bytes, ending: str) -> dict:
    text = data.decode("utf-8-sig")
    return {"text": text.strip("\r\n")} if ending.lower() == ".txt" else json.loads(text)


def _jsonl(path: Path) -> RecordSet:
    """Lines {"image": path, "text": str} or {"image": path, "captions": [str, ...]}, with "id" and "tags" if you like.

    Paths are relative to the list's folder, or to images/ or image/ in it. The id is the path
    without its ending; several captions of an image get #0, #1, ... behind it.
    """
    try:
        pictures = {
            (item.name, item.image.is_file())
            for item in _walk_jsonl(path)
            if isinstance(item, Record)
        }
        count = sum(1 for _ in _walk_jsonl(path))
    except OSError as error:
        raise TTDError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from None
    except UnicodeDecodeError:
        raise TTDError(f"{path}: not UTF-8 text; save the list as UTF-8") from None
    if not count:
        raise TTDError(f'{path}: no lines; each must be {{"image": path, "text": caption}}')
    missing = sum(not there for _, there in pictures)
    return RecordSet(
        f"{path}: {count} captions of {len(pictures)} images; {_lacking(missing, 'missing images')}",
        count,
        True,
        lambda start: itertools.islice(_walk_jsonl(path), start, None),
    )


def _walk_jsonl(path: Path) -> Iterator[Item]:
    number = itertools.count()
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for at, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                name, captions = (
                    row["image"],
                    row["captions"] if "captions" in row else [row["text"]],
                )
                if not isinstance(captions, list):
                    raise TypeError('"captions" is no list')
                image = _beside(path.parent, name)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                yield Skipped(
                    next(number),
                    f"{path.name}:{at}",
                    f"not a line with image and text ({_reason(error)})",
                )
                continue
            own = str(
                row.get("id")
                or os.path.splitext(Path(name).name if Path(name).is_absolute() else name)[0]
            )
            for k, text in enumerate(captions):
                stem = f"{own}#{k}" if len(captions) > 1 else own
                content = {"text": text, "tags": row.get("tags")}
                yield _checked(next(number), stem, image, name, lambda content=content: content)


def _beside(folder: Path, name: str) -> Path:
    """The first of folder/name, folder/images/name, folder/image/name that exists; else folder/name."""
    candidates = [folder / name, folder / "images" / name, folder / "image" / name]
    return next((path for path in candidates if path.exists()), candidates[0])


def _shards(tars: list[Path], root: Path) -> RecordSet:
    """webdataset: in each tar, consecutive files of one name up to its first dot; jpg|jpeg|png|webp and txt|json."""
    first = sum(1 for _ in _walk_shard(tars[0], root, itertools.count()))
    size = tars[0].stat().st_size or 1
    exact = len(tars) == 1
    count = first if exact else round(first * sum(tar.stat().st_size for tar in tars) / size)

    def walk(start: int) -> Iterator[Item]:
        number = itertools.count()
        items = itertools.chain.from_iterable(_walk_shard(tar, root, number) for tar in tars)
        return itertools.islice(items, start, None)

    about = f"{count} pairs" if exact else f"about {count} pairs ({first} in the first)"
    return RecordSet(
        f"{root}: {len(tars)} webdataset shard{'s' * (len(tars) > 1)}, {about}", count, exact, walk
    )


def _walk_shard(path: Path, root: Path, number: Iterator[int]) -> Iterator[Item]:
    """All groups of files of one tar; a damaged tar ends with a `Skipped` that says so."""
    shard = path.relative_to(root).as_posix()
    problems: list[Exception] = []
    try:
        with tarfile.open(path, "r:") as tar:
            for key, members in itertools.groupby(
                _files(tar, problems), lambda member: _key(member.name)
            ):
                parts = {os.path.splitext(member.name)[1].lower(): member for member in members}
                tar.members.clear()  # tarfile remembers every file it has seen
                image = next((parts[ending] for ending in SUFFIXES if ending in parts), None)
                text = next((parts[ending] for ending in TEXTS if ending in parts), None)
                if image is None or text is None:
                    reason = f"no {'image' if image is None else 'caption'} in {shard}"
                    yield Skipped(next(number), key, reason)
                    continue
                packed = Packed(path, image.offset_data, image.size)
                yield _checked(
                    next(number),
                    key,
                    packed,
                    f"{shard}/{image.name}",
                    lambda member=text, tar=tar: _content(
                        tar.extractfile(member).read(), Path(member.name).suffix
                    ),
                )
    except (tarfile.TarError, OSError, EOFError) as error:
        problems.append(error)
    if problems:
        yield Skipped(next(number), shard, f"damaged or compressed tar: {_reason(problems[0])}")


def _files(tar: tarfile.TarFile, problems: list[Exception]) -> Iterator[tarfile.TarInfo]:
    """The files of a tar up to its first damage, which goes into `problems`: what lies before it can be used."""
    try:
        yield from (member for member in tar if member.isfile())
    except (tarfile.TarError, OSError, EOFError) as error:
        problems.append(error)


def _key(name: str) -> str:
    """webdataset's key: the path up to the first dot of the file's own name."""
    folder, base = os.path.split(name)
    return os.path.join(folder, base.split(".")[0])


def _checked(
    index: int, name: str, image: Path | Packed, shown: str, load: Callable[[], dict]
) -> Item:
    """A Record from what `load` returns, or a Skipped with what is wrong with it."""
    try:
        content = load()
        text = content["text"] if "text" in content else content["caption"]
        tags = content.get("tags")
        str(text).encode()  # half a surrogate pair, which JSON can hold, is no text
    except OSError as error:
        return Skipped(index, name, f"caption cannot be read ({error.strerror})")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Skipped(
            index, name, f'bad caption file, wanted {{"text": caption}} ({_reason(error)})'
        )
    if not isinstance(text, str) or not (tags is None or _strings(tags)):
        return Skipped(
            index, name, 'bad caption file: "text" must be a string, "tags" a list of strings'
        )
    if not text.strip():
        return Skipped(index, name, "empty caption")
    return Record(index, name, image, shown, text, None if tags is None else tuple(tags))


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f'no "{error.args[0]}"'
    return " ".join(str(error).split())[:120] or type(error).__name__


def _lacking(count: int, what: str) -> str:
    return f"{count or 'no'} {what}"


def _names(folder: Path) -> list[str]:
    """Names in a folder without hidden ones, sorted. TTDError when it cannot be listed."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise TTDError(
            f"{folder}: cannot be listed ({error.strerror}); check its permissions"
        ) from None
