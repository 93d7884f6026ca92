"""A Ray cluster of two machines that this one plays: workers are killed, one machine removed."""

import contextlib
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from kills import contents
from small_labels import label_all, settings_for, small_set

from core.labelling.engines.ray_data import Cluster, run_ray
from core.labelling.manifest import shards_of, write_manifest
from core.labelling.places import Output
from core.labelling.shard import Worker

ray = pytest.importorskip("ray", reason="Ray: pip install -r requirements-ray.txt")
pytest.importorskip("ray.data", reason="Ray Data: pip install -r requirements-ray.txt")

SHARDS = 64


@pytest.fixture
def cluster():
    """Two nodes of one CPU each; the second one is handed out to be removed."""
    from ray import cluster_utils

    size = {"object_store_memory": 80 * 2**20}
    machines = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **size})
    second = machines.add_node(num_cpus=1, **size)
    machines.wait_for_nodes()
    yield machines, second
    machines.shutdown()


class Logged(Worker):
    """A worker that notes beside its output which shards it has begun."""

    def _made(self, shard, *more):
        with open(f"{self.out}.log", "a") as log:
            log.write(f"{shard.name}\n")
        return super()._made(shard, *more)


class Deadly(Worker):
    """A worker that one shard kills."""

    def _made(self, shard, *more):
        if shard.name == "00003":
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._made(shard, *more)


def actors(parent=None):
    """Process ids of the workers that hold a model, among those that this process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"PPid:\t{parent or os.getpid()}\n" in path.read_text():
                pid = int(path.parent.name)
                name = path.with_name("cmdline").read_bytes().decode(errors="replace")
                found += [pid] * name.startswith("ray::MapWorker") + actors(pid)
    return found


@pytest.mark.slow
def test_a_killed_worker_and_a_removed_machine_change_nothing(cluster, small_clip, tmp_path):
    """64 shards: the bytes of one process, and nothing begun twice but what was in work."""
    machines, second = cluster
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    pattern = small_set(tmp_path / "in", (2,) * SHARDS)
    settings = settings_for(small_clip, want=("tags",))
    label_all(pattern, settings, tmp_path / "one")
    out, states = tmp_path / "ray", {}
    use = Cluster(machines.address, workers=2)
    for report in run_ray(shards_of([pattern]), settings, str(out), use, kind=Logged):
        assert report.state in ("made", "kept"), report.reason
        states[report.shard] = report.state
        if len(states) == 6:
            os.kill(actors()[0], signal.SIGKILL)
        if len(states) == 24:
            machines.remove_node(second, allow_graceful=False)
    assert len(states) == SHARDS
    write_manifest(Output(str(out)))
    assert contents(out) == contents(tmp_path / "one")
    begun = Counter((tmp_path / "ray.log").read_text().split())
    assert len(begun) == SHARDS and sum(begun.values()) <= SHARDS + 2


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_fails_alone(cluster, small_clip, tmp_path):
    machines, _ = cluster
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    pattern = small_set(tmp_path / "in", (2,) * 8)
    out = tmp_path / "ray"
    settings = settings_for(small_clip, want=("tags",))
    use = Cluster(machines.address, workers=2)
    reports = list(run_ray(shards_of([pattern]), settings, str(out), use, kind=Deadly))
    states = {report.shard: report.state for report in reports}
    assert states == {f"{k:05d}": "failed" if k == 3 else "made" for k in range(8)}
    listed = json.loads((out / "_failed/00003.json").read_text())
    assert listed["reason"].startswith("3 workers died over it, out of memory perhaps")
