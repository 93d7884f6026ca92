"""The published numbers on your own machine: fetch, check, prepare, run, compare row by row.

    python tools/reproduce.py --dry-run                  # what would be fetched and run
    python tools/reproduce.py --only demo tags captions
    python tools/reproduce.py --only voc tcl --gpus 0 1 --root ..
    python tools/reproduce.py --only voc --limit 20      # a rehearsal on a few images

It first says what will be fetched: sizes, sources, licences. What asks for a sign-in, a form or a
licence is not fetched for you: the page to open and the file to save are named, the rest goes on,
and the exit code is 2. Everything resumes: downloads, preparing, scripts. Names of --only, of which
tcl and grounding stand for all of theirs:

{names}
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from cli import ROOT, positive_int, run, say
from reproduce_table import Row, as_json, markdown, table
from reproduce_targets import Places, Run, Target, all_targets

from core.errors import TTDError
from core.utils.files import expanded, read_json
from core.utils.shipped import own_weights, shipped
from tools.evaluation import write, write_json

if TYPE_CHECKING:
    from core.data.download.catalogue import Release
    from core.data.download.store import Store

GROUPS = ("tcl", "grounding")
INDENT = 4 * " "


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    layout = {"initial_indent": INDENT, "subsequent_indent": INDENT, "break_on_hyphens": False}
    names = textwrap.fill(", ".join(all_targets()), 96, **layout)
    about = str(__doc__).format(names=names)
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="only these (default: everything)")
    add("--dry-run", action="store_true", help="fetch and run nothing; list what would be")
    add("--root", type=Path, default=Path(".."), metavar="FOLDER", help="where the sets are, or "
        "are made (default: %(default)s)")  # fmt: skip
    add("--downloads", type=Path, metavar="FOLDER", help="for releases (default: ROOT/downloads)")
    add("--out", type=Path, default=ROOT / "out" / "reproduce", metavar="FOLDER",
        help="results, and the rows as table.md and rows.json (default: %(default)s)")  # fmt: skip
    add("--allow-http", action="store_true", help="also fetch over plain http, where whoever is on "
        "the way can change a file")  # fmt: skip
    add("--releases", type=Path, metavar="FILE.yaml", help="another list of what is fetched, such "
        "as a mirror's (default: configs/downloads.yaml)")  # fmt: skip
    add("--limit", type=positive_int, metavar="N", help="only N images of each set: a rehearsal")
    add("--device", metavar="DEVICE", help="cpu, cuda or cuda:N")
    add("--gpus", nargs="+", default=[], metavar="N", help="a process on each of these GPUs")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """List, fetch, prepare, run, print the rows; 2 where something could not be done."""
    args = get_args_parser().parse_args(argv)
    from core.data.download.catalogue import read_catalogue
    from core.data.download.links import Policy
    from core.data.download.store import Store

    targets = chosen(args.only)
    releases = read_catalogue(args.releases or shipped("configs/downloads.yaml"))
    places = places_of(args)
    others = {"weights": places.weights, "root": places.root}
    store = Store(places.downloads, others, Policy(plain_http=args.allow_http))
    wanted = needed(targets, places.root, releases)
    print(listing({name: releases[name] for name in wanted}, store))
    if args.dry_run:
        for target in targets:
            print(f"\n{target.name}: {target.about}")
            prepare(target, places, printed_only)
            target.measure(places, printed_only)
        return 0
    rows, failed = [], {}
    for target in targets:
        print(f"\n== {target.name}: {target.about}", flush=True)
        try:
            if missing := provide(target, places, releases, store):
                failed[target.name] = missing
                continue
            prepare(target, places, run_script)
            rows += target.measure(places, run_script)
        except TTDError as error:
            failed[target.name] = [str(error)]
    report(rows, places)
    for name, reasons in failed.items():
        for reason in reasons:
            say(f"{name}: {reason}")
    return 2 if failed else 0


def chosen(names: Sequence[str] | None) -> list[Target]:
    """The targets of --only, in their own order. TTDError for a name that there is not."""
    every = all_targets()
    if names is None:
        return list(every.values())
    known = [*every, *GROUPS]
    for name in names:
        if name not in known:
            near = ", ".join(get_close_matches(name, known, 2)) or ", ".join(known)
            raise TTDError(f"--only {name}: there is no such target; did you mean {near}?")
    groups = tuple(f"{name}-" for name in names if name in GROUPS)
    return [t for t in every.values() if t.name in names or (groups and t.name.startswith(groups))]


def places_of(args: argparse.Namespace) -> Places:
    """Absolute places: the scripts may be started from elsewhere."""
    root, out = absolute(args.root), absolute(args.out)
    downloads = absolute(args.downloads) if args.downloads else root / "downloads"
    options = () if args.device is None else ("--device", args.device)
    return Places(root, downloads, own_weights(), out, args.limit, options, tuple(args.gpus))


def absolute(path: Path) -> Path:
    """A path as it is called from everywhere."""
    return Path(os.path.abspath(expanded(path)))


def needed(targets: Sequence[Target], root: Path, releases: dict[str, Release]) -> list[str]:
    """Names of the releases that the targets need, each once. TTDError: the list lacks one."""
    names: dict[str, None] = {}
    for target in targets:
        there = target.data is None or in_place(target.data, root)
        names |= dict.fromkeys((*target.needs, *(() if there else target.releases)))
    if lacking := [name for name in names if name not in releases]:
        raise TTDError(f"--releases: the list has no {', '.join(lacking)}")
    return list(names)


def in_place(data: str, root: Path) -> bool:
    """Whether a set is there, whole as far as `prepared.json` tells."""
    from core.data.labels.datasets import open_dataset

    try:
        folder = open_dataset(data, root).images.parent
    except TTDError:
        return False
    mark = read_json(folder / "prepared.json")
    return mark is None or "pictures" in mark


def listing(releases: dict[str, Release], store: Store) -> str:
    """What is there and what will be fetched, each with its size, source, licence and sum."""
    lines = [f"Downloads go to {store.downloads}, weights to {store.others['weights']}."]
    for name, release in releases.items():
        lines += [
            f"{name} [{store.state(release)}]: {release.what}",
            f"    {size_words(release)}; {sum_words(release)}",
            f"    licence: {release.licence}; told by: {release.source}",
            f"    from {release.url or release.page}",
            f"    to {store.place(release)}",
        ]
    return "\n".join(lines)


def size_words(release: Release) -> str:
    """How large it is, as far as published."""
    if release.size is not None:
        return f"{release.size / 1e6:,.1f} MB"
    return "size not published; the server says it"


def sum_words(release: Release) -> str:
    """By what it is checked."""
    if release.holds:
        return f"checked by: it holds {', '.join(release.holds)}"
    if release.sums:
        return f"checked by its published {' and '.join(release.sums)}"
    return "no sum is published; the first one seen is kept and compared later"


def provide(
    target: Target, places: Places, releases: dict[str, Release], store: Store
) -> list[str]:
    """Everything that a target needs, fetched and unpacked; what is missing, a line for each."""
    there = target.data is None or in_place(target.data, places.root)
    missing = []
    for name in (*target.needs, *(() if there else target.releases)):
        try:
            ensure(store, name, releases[name])
        except TTDError as error:
            missing.append(str(error))
    return missing


def prepare(target: Target, places: Places, runner: Run) -> None:
    """Bring the set of a target into the layout, where it is not there yet."""
    if target.data is None or in_place(target.data, places.root):
        return
    source = str(places.downloads / target.source)
    line = ["tools/prepare_dataset.py", target.data, "--source", source]
    runner([*line, "--root", str(places.root), "--link"])


def ensure(store: Store, name: str, release: Release) -> None:
    """Fetch, check and unpack one release, with a bar in bytes."""
    from tqdm import tqdm

    with tqdm(desc=name, unit="B", unit_scale=True, disable=None, leave=False) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total, bar.n = total, done
            bar.refresh()

        place = store.ensure(name, release, show)
    print(f"{name}: {place}", flush=True)


def command(words: Sequence[str]) -> str:
    """A script and its options as they would be typed."""
    return f"$ python {shlex.join(words)}"


def printed_only(words: Sequence[str]) -> str:
    """For a dry run: print the command, and what stands for the folder that it would name."""
    print(f"    {command(words)}")
    return "FOLDER"


def run_script(words: Sequence[str]) -> str:
    """Run one of the scripts as a process of its own; the last line that it prints.

    TTDError when it ends with another exit code than 0; what it said is above.
    """
    print(command(words), flush=True)
    script, *options = words
    line = [sys.executable, str(ROOT / script), *options]
    last = ""
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        for text in process.stdout or ():
            print(text, end="", flush=True)
            last = text.strip() or last
    if process.returncode:
        raise TTDError(f"{script} ended with exit code {process.returncode}; what it said is above")
    return last


def report(rows: Sequence[Row], places: Places) -> None:
    """Print the rows, and write them."""
    if not rows:
        return
    print(f"\n{table(rows, places.limit)}")
    write(places.out / "table.md", markdown(rows, places.limit))
    write_json(places.out / "rows.json", as_json(rows, places.limit))
    print(f"\n{places.out / 'table.md'}, {places.out / 'rows.json'}", flush=True)


if __name__ == "__main__":
    run(main)
