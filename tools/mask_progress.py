"""What a run that makes masks shows: settings, a bar, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tools.cli import say
from tools.mask_shards import Shard


class Progress:
    """Collects what the shards of this process report; a `Report`. Only rank 0 shows it."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        """shards: those of this process."""
        self._quiet, self._bar, self._path = shards[0].rank > 0, None, ""
        self._of = ""
        if shards[0].world > len(shards):
            self._of = f" by the first of {shards[0].world} processes"
        self._counts = {"made": 0, "kept": 0, "skipped": 0, "unreadable": 0}
        self._start = time.perf_counter()

    def __call__(self, event: str, value: Any) -> None:
        """Take note of an event."""
        if event == "begin":
            self._begin(value)
        elif event == "step":
            for key, count in value.items():
                self._counts[key] += count
            self._bar.set_postfix(skipped=self._left_out, refresh=False)
            self._bar.update(1)

    def _begin(self, value: Mapping[str, Any]) -> None:
        """A shard begins: the first one says with which settings."""
        if self._bar is None:
            self._open(value)
        self._bar.total += value["all"]
        self._bar.n += value["kept"]
        # A bar that is not shown has no `initial`.
        self._bar.initial = getattr(self._bar, "initial", 0) + value["kept"]
        self._counts["kept"] += value["kept"]
        self._bar.refresh()

    def _open(self, value: Mapping[str, Any]) -> None:
        from tqdm import tqdm

        self._path, self._start = value["path"], time.perf_counter()
        if not self._quiet:
            given = [f"{key} {item}" for key, item in value["settings"].items() if item is not None]
            settings = ", ".join(given).removeprefix("name ")
            print(value["description"])
            print(f"protocol {settings}, {value['device']}", flush=True)
            if value.get("defaults"):
                own = [f"{key} {item}" for key, item in value["defaults"].items()]
                print(f"of these the model's own defaults: {', '.join(own)}", flush=True)
        hidden = True if self._quiet else None  # None: shown on a terminal
        self._bar = tqdm(total=0, unit="image", disable=hidden, smoothing=0.1)

    def finish(self) -> int:
        """Print the last lines; the exit code, 2 when images could not be used."""
        self._bar.close()
        seconds, counts = time.perf_counter() - self._start, self._counts
        if not self._quiet:
            kept = f", {counts['kept']} were there already" if counts["kept"] else ""
            rate = f"{counts['made'] / seconds:.2f} images/s"
            print(f"{counts['made']} masks{self._of} in {seconds:.1f} s ({rate}){kept}")
            print(self._path)
        listed = f"see {self._path}/skipped.jsonl"
        if counts["skipped"]:
            say(f"{counts['skipped']} images could not be used: {listed}")
        if counts["unreadable"]:
            say(
                f"{counts['unreadable']} images could not be read; mend that and run the same "
                f"command again, it makes what is missing; {listed}"
            )
        return 2 if self._left_out else 0

    @property
    def _left_out(self) -> int:
        return self._counts["skipped"] + self._counts["unreadable"]
