"""Ray Data: actors on many machines, each with its model; a row is a shard.

No image enters Ray's object store, and no state but the list of shards is central. When an actor or
a machine is lost, Ray starts the rows in its hands again elsewhere: shards that were whole are
found so and kept, the one in work is made again. Ray does so for ever; a shard that `DEATHS` actors
died over (it needs more memory than there is) is reported as failed instead.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ...errors import TTDError
from ..settings import Settings
from ..shard import STOPPED, Report, Shard, Worker, list_failed

MISSING = "--engine ray needs Ray: pip install -r requirements-ray.txt, or take --engine local"
DEATHS = 3  # of workers over one shard
ADVICE = "out of memory perhaps: use fewer --workers, or more --cpus-per-worker"
DIED = f"{DEATHS} workers died over it, {ADVICE}"
BLOCKS = 10_000  # rows travel in so many blocks at most: one by one below, together above
ROOT = Path(__file__).resolve().parents[3]  # what holds this package


@dataclass(frozen=True)
class Cluster:
    """What of a cluster is used.

    address: of a running one ("auto" for this machine's), None to start one here. workers: actors,
    None for one per GPU, or per CPU without any. cpus, gpus: what each holds; None: one GPU where
    there are any.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float | None = None


def ray_module() -> Any:
    """Ray with its Data library. TTDError, with what to install, where it is absent."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise TTDError(MISSING) from None
    return ray


class Counted(Protocol):
    """Who knows how often a shard was begun: `Tries`, here or elsewhere."""

    def begin(self, name: str) -> int:
        """Count a shard that is begun: how often it was since it last ended."""

    def end(self, name: str) -> None:
        """A shard of which there is a report."""


class Tries:
    """How often the shards in work were begun.

    In a process of its own, which does not die with the workers that it counts.
    """

    def __init__(self) -> None:
        self._begun = Counter[str]()

    def begin(self, name: str) -> int:
        """Count a shard that is begun: how often it was since it last ended."""
        self._begun[name] += 1
        return self._begun[name]

    def end(self, name: str) -> None:
        """A shard of which there is a report."""
        self._begun.pop(name, None)


class RemoteTries:
    """`Tries` in a process of the cluster."""

    def __init__(self, ray: Any) -> None:
        # Where its machine is lost another one begins, and counts from zero.
        kind = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Tries)
        self._there = kind.remote()

    def begin(self, name: str) -> int:
        """As `Tries`."""
        return int(ray_module().get(self._there.begin.remote(name)))

    def end(self, name: str) -> None:
        """As `Tries`."""
        ray_module().get(self._there.end.remote(name))


class Actor:
    """What Ray runs on a worker: one row, a shard, to one row, its report."""

    def __init__(
        self, settings: Settings, out: str, overwrite: bool, kind: type[Worker], tries: Counted
    ) -> None:
        self._worker, self._tries = kind(settings, out, overwrite), tries

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of one shard. What goes wrong comes back as a row: Ray would try it for ever."""
        shard = Shard(str(batch["url"][0]), str(batch["name"][0]))
        report = self._report(shard)
        self._tries.end(shard.name)
        return {name: [value] for name, value in report.row().items()}

    def _report(self, shard: Shard) -> Report:
        """What became of a shard, which is not tried where too many workers died over it."""
        if self._tries.begin(shard.name) <= DEATHS:
            return self._worker(shard)
        try:
            return list_failed(self._worker.out, shard, DIED)
        except TTDError as error:  # the output is full, or gone
            return Report(shard.name, STOPPED, reason=str(error))


def run_ray(
    shards: Sequence[Shard],
    settings: Settings,
    out: str,
    cluster: Cluster,
    overwrite: bool = False,
    kind: type[Worker] = Worker,
) -> Iterator[Report]:
    """The shards on a cluster, in the order in which they are finished.

    kind: of workers, for measurements. TTDError: no Ray, no such cluster, or one without the
    resources that are asked for; workers die over every shard.
    """
    ray = ray_module()
    if not shards:  # of a part of a few
        return
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, cluster.address)
    try:
        tries = RemoteTries(ray)
        rows = _run(ray, shards, (settings, out, overwrite, kind, tries), cluster)
        yield from unless_all_die(rows)
    finally:
        if ours:
            ray.shutdown()


def unless_all_die(reports: Iterable[Report]) -> Iterator[Report]:
    """The reports. TTDError after `DEATHS` in a row of shards that workers died over.

    A model that is too large for the memory would else cost its loading for every shard.
    """
    lost = 0
    for report in reports:
        yield report
        lost = lost + 1 if report.reason == DIED else 0
        if lost == DEATHS:
            raise TTDError(f"workers die over every shard, {ADVICE}")


def _connect(ray: Any, address: str | None) -> None:
    """Join the cluster. Its processes import this package from where it lies here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of ours reports to nobody
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": path}},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TTDError(f"--ray-address {address}: no such cluster ({reason})") from None


def _run(
    ray: Any, shards: Sequence[Shard], arguments: tuple[Any, ...], cluster: Cluster
) -> Iterator[Report]:
    """The rows of a cluster that is joined, as reports."""
    workers, gpus = _resources(ray, len(shards), cluster)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = [asdict(shard) for shard in shards]
    reports = ray.data.from_items(rows, override_num_blocks=min(len(rows), BLOCKS)).map_batches(
        Actor,
        fn_constructor_args=arguments,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        num_cpus=cluster.cpus,
        num_gpus=gpus,
    )
    for row in reports.iter_rows():
        yield Report(**row)


def _resources(ray: Any, shards: int, cluster: Cluster) -> tuple[int, float]:
    """How many actors, and how much of a GPU each holds: a whole one must fit in a machine."""
    there = ray.cluster_resources()
    gpus = cluster.gpus
    if gpus is None:
        gpus = min(1.0, there.get("GPU", 0.0))
    wanted = {"CPU": cluster.cpus, "GPU": gpus}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = sum(_fitting(machine, wanted, shards) for machine in machines)
    if fits < 1:
        raise TTDError(
            f"a worker wants {cluster.cpus:g} CPUs and {gpus:g} GPUs, the {len(machines)} machines "
            f"of the cluster have {there.get('CPU', 0):g} and {there.get('GPU', 0):g} in all: ask "
            "for less of them"
        )
    return max(1, min(cluster.workers or fits, shards)), gpus


def _fitting(machine: dict[str, float], wanted: dict[str, float], most: int) -> int:
    """How many workers fit in a machine, at most `most`."""
    counts = [machine.get(name, 0.0) / share for name, share in wanted.items() if share]
    return max(0, int(min([float(most), *counts]) + 1e-6))  # ten of 0.1 are one
