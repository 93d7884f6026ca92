"""Carry out a plan: many jobs in threads; files are whole or not there; what is there is kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import TTDError, UnreadableError
from ...utils.files import (
    atomic,
    differences,
    is_away,
    read_json,
    safe_id,
    sync_all,
    write_bytes,
    write_text,
)
from ...utils.prefetch import prefetch
from ..labels.dataset_yaml import load_shipped
from ..records import Packed

MARK = "prepared.json"
AHEAD = 64  # jobs per thread that are known at a time: shards hold millions


@dataclass(frozen=True)
class Job:
    """One image: `image` goes to OUT/image_name, what `content` returns to OUT/content_name.

    `content` may raise TTDError: the image is then left out and the reason kept, as with a
    `problem` from the start; UnreadableError, or `retry` with the problem: it could not be read.
    """

    id: str
    image: Path | Packed
    image_name: str
    content_name: str
    content: Callable[[], bytes] = bytes
    problem: str = ""
    retry: bool = False


@dataclass(frozen=True)
class Plan:
    """What to make in the folder `out`.

    identity: from what it is made; about: a line that says so; count: how many jobs there are, an
    estimate for shards.
    """

    out: Path
    identity: dict[str, str]
    about: str
    jobs: Iterable[Job]
    count: int


@dataclass
class Report:
    """Images made, images that were there, and what could not be made, with reasons.

    unreadable: of what failed, how many could not be read, which the next run tries again.
    """

    made: int = 0
    kept: int = 0
    failed: list[str] = field(default_factory=list)
    unreadable: int = 0


def run_plan(
    plan: Plan,
    *,
    workers: int = 4,
    link: bool = False,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Report:
    """Make all files of a plan. Run again, it makes what is missing.

    workers: threads; link: hard links to the release's images instead of copies, where the file
    system allows; overwrite: make everything again; progress: called after every image. Raises
    TTDError when OUT holds what was made from something else (unless `overwrite`) and when it
    cannot be written.
    """
    report = Report()
    try:
        _start(plan, overwrite)
        make = partial(_make, out=plan.out, link=link, overwrite=overwrite)
        with closing(prefetch(make, plan.jobs, AHEAD * workers, workers)) as outcomes:
            for outcome in outcomes:
                _count(report, outcome)
                progress(1)
        made = {"pictures": report.made + report.kept, "left_out": len(report.failed)}
        _write_mark(plan, made)
    except OSError as error:
        raise TTDError(
            f"{error.filename or plan.out}: cannot be read or written ({error.strerror}); "
            "mend that and run the same command again: it resumes where it stopped"
        ) from None
    return report


def _start(plan: Plan, overwrite: bool) -> None:
    """Make the folder and its mark; refuse to mix with what was made from something else."""
    found = read_json(plan.out / MARK)
    if not overwrite:
        _check_folder(plan, found)
    plan.out.mkdir(parents=True, exist_ok=True)
    if found is None or overwrite:
        _write_mark(plan, {})


def _write_mark(plan: Plan, made: dict[str, int]) -> None:
    content = json.dumps({**plan.identity, **made}, indent=1, ensure_ascii=False)
    if made:  # what it stands for comes first
        sync_all()
    write_text(plan.out / MARK, content + "\n", durable=True)


def _check_folder(plan: Plan, found: dict[str, Any] | None) -> None:
    """TTDError unless the folder is new, empty, or what the same plan left there."""
    if found is None:
        if plan.out.is_dir() and any(plan.out.iterdir()):
            raise TTDError(
                f"{plan.out}: not empty, and not made by this tool; move it away or add --overwrite"
            )
        return
    own = {key: found.get(key) for key in plan.identity}
    if differing := differences(own, plan.identity):
        raise TTDError(
            f"{plan.out} was made from something else ({'; '.join(differing)}); "
            "choose another --root or add --overwrite"
        )


def _make(job: Job, out: Path, link: bool, overwrite: bool) -> TTDError | bool:
    """True: made, False: was there, or why not."""
    if job.problem:
        kind = UnreadableError if job.retry else TTDError
        return kind(f"{job.id}: {job.problem}")
    image, content = out / job.image_name, out / job.content_name
    if not overwrite and image.exists() and content.exists():
        return False
    if isinstance(job.image, Path) and not job.image.is_file():
        return UnreadableError(f"{job.id}: no image {job.image}")
    try:
        data = job.content()
    except TTDError as error:
        return type(error)(f"{job.id}: {error}")
    for path in (image, content):
        path.parent.mkdir(parents=True, exist_ok=True)
    _place(job.image, image, link)
    write_bytes(content, data)
    return True


def _place(image: Path | Packed, target: Path, link: bool) -> None:
    """Link, copy or unpack an image."""
    with atomic(target) as part:
        part.unlink(missing_ok=True)
        if isinstance(image, Packed):
            part.write_bytes(image.read())
        elif not (link and _linked(image, part)):
            shutil.copyfile(image, part)


def _linked(image: Path, part: Path) -> bool:
    """Whether a hard link worked; it cannot across file systems."""
    try:
        os.link(image.resolve(), part)
    except OSError:
        return False
    return True


def _count(report: Report, outcome: TTDError | bool) -> None:
    if isinstance(outcome, TTDError):
        report.failed.append(str(outcome))
        report.unreadable += is_away(outcome)
    elif outcome:
        report.made += 1
    else:
        report.kept += 1


def mask_job(key: str, image: Path, content: Callable[[], bytes]) -> Job:
    """The job of an image with its mask, whose PNG `content` returns."""
    return Job(key, image, f"image/{key}{image.suffix.lower()}", f"mask/{key}.png", content)


def mask_plan(name: str, root: Path, split: str, kind: str, jobs: list[Job]) -> Plan:
    """The plan of a segmentation set; `kind` says what its masks are made from.

    TTDError when there are no jobs, or two would write one file.
    """
    if not jobs:
        raise TTDError(f"{name}: no images found for split {split} ({kind}); check --source")
    _check_ids(jobs)
    folder = "validation" if split == "val" else split
    return Plan(
        out=root / load_shipped(name)["folder"] / folder,
        identity={"set": name, "split": split, "made_from": kind},
        about=f"{name}: {len(jobs)} images, masks from {kind}",
        jobs=jobs,
        count=len(jobs),
    )


def _check_ids(jobs: list[Job]) -> None:
    """TTDError for two images of one id, and for ids that are no plain names."""
    seen: dict[str, Job] = {}
    for job in jobs:
        if seen.setdefault(job.id.casefold(), job) is not job:
            other = seen[job.id.casefold()]
            raise TTDError(
                f"both {other.image} and {job.image} would be {job.content_name}; rename one, "
                "or prepare them as two sets"
            )
        if safe_id(job.id) != job.id:
            raise TTDError(f"{job.id[:80]!r}: an id that is no plain file name; rename its files")
