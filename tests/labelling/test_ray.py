"""A Ray cluster of two machines that this one plays: one worker is killed, one machine removed."""

import json
import os
import signal
import time

import pytest
from kills import contents
from small_labels import label_all, settings_for, small_set

from core.labelling.manifest import shards_of, write_manifest
from core.labelling.places import Output

ray = pytest.importorskip("ray", reason="Ray: pip install -r requirements-ray.txt")
pytest.importorskip("ray.data", reason="Ray Data: pip install -r requirements-ray.txt")

SHARDS = 64


@pytest.fixture
def cluster():
    """Two nodes of one CPU each; the second one is handed out to be removed."""
    from ray.cluster_utils import Cluster

    size = {"object_store_memory": 80 * 2**20}
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **size})
    second = machines.add_node(num_cpus=1, **size)
    machines.wait_for_nodes()
    yield machines, second
    machines.shutdown()


def actors():
    """Process ids of the workers that hold a model."""
    from ray.util.state import list_actors

    found = list_actors(filters=[("state", "=", "ALIVE")], detail=True)
    return [one.pid for one in found if one.pid and "Map" in (one.class_name or "")]


@pytest.mark.slow
def test_a_killed_worker_and_a_removed_machine_change_nothing(cluster, small_clip, tmp_path):
    from core.labelling.engines.ray_data import Cluster, run_ray

    machines, second = cluster
    pattern = small_set(tmp_path / "in", (2,) * SHARDS)
    settings = settings_for(small_clip, want=("tags",))
    label_all(pattern, settings, tmp_path / "one")
    out, states, times = tmp_path / "ray", {}, []
    for report in run_ray(
        shards_of([pattern]), settings, str(out), Cluster(machines.address, workers=2)
    ):
        assert report.state in ("made", "kept"), report.reason
        states[report.shard] = report.state
        times.append(time.monotonic())
        if len(states) == 8:
            os.kill(actors()[0], signal.SIGKILL)
        if len(states) == 24:
            machines.remove_node(second, allow_graceful=False)
    assert len(states) == SHARDS
    # What was lost was at most what the two workers were at.
    assert sum(state == "kept" for state in states.values()) <= 8
    write_manifest(Output(str(out)))
    assert contents(out) == contents(tmp_path / "one")
    about = [json.loads(path.read_text()) for path in out.glob("0*.json")]
    assert sum(one["pairs"] for one in about) == 2 * SHARDS
