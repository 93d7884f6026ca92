"""Which workers there are, what they are told, and when they are given up."""

import multiprocessing
import os
from collections import deque
from types import SimpleNamespace

import pytest

from core.errors import TTDError
from core.labelling.engines.ray_data import Cluster, _resources
from core.labelling.labeller import _called
from core.labelling.settings import Settings
from core.labelling.shard import Shard, Worker
from core.labelling.stats import Stats, _add
from tools.label_pool import DEATHS, _Pool
from tools.label_run import _located


def ray_of(*machines):
    """What Ray says of machines with so many CPUs and GPUs."""
    nodes = [{"Alive": True, "Resources": {"CPU": cpu, "GPU": gpu}} for cpu, gpu in machines]
    whole = {"CPU": sum(cpu for cpu, _ in machines), "GPU": sum(gpu for _, gpu in machines)}
    nodes.append({"Alive": False, "Resources": {"CPU": 64.0}})
    return SimpleNamespace(nodes=lambda: nodes, cluster_resources=lambda: whole)


@pytest.mark.parametrize(
    ("machines", "cluster", "expected"),
    [
        ([(4, 0), (2, 0)], Cluster(), (6, 0.0)),
        ([(3, 0), (3, 0)], Cluster(cpus=2), (2, 0)),  # three would fit in their sum
        ([(8, 1), (8, 2)], Cluster(), (3, 1.0)),
        ([(8, 1)], Cluster(gpus=0.1), (8, 0.1)),
        ([(16, 1)], Cluster(gpus=0.1), (10, 0.1)),
        ([(8, 0)], Cluster(workers=3), (3, 0)),
    ],
)
def test_workers_fit_in_machines(machines, cluster, expected):
    assert _resources(ray_of(*machines), 100, cluster) == expected


@pytest.mark.parametrize("cluster", [Cluster(cpus=2), Cluster(gpus=1), Cluster(gpus=-1)])
def test_a_worker_that_fits_nowhere_is_refused(cluster):
    """Ray would wait for such a machine for ever."""
    with pytest.raises(TTDError, match="2 machines of the cluster"):
        _resources(ray_of((1, 0), (1, 0)), 100, cluster)


def test_a_cluster_is_told_whole_paths_and_labels_are_the_same(tmp_path, monkeypatch):
    (tmp_path / "models/small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    there = f"local-dir:{tmp_path}/models/small"
    assert _located(Settings(arch="local-dir:models/small")) == {"arch": there}
    assert _located(Settings(arch="tiny")) == _located(Settings(arch="hf-hub:models/small")) == {}
    assert _called("local-dir:models/small") == _called(there) == "local-dir:small"
    assert _called("hf-hub:a/b") == "hf-hub:a/b" and _called("ViT-B-32:openai") == "ViT-B-32:openai"


def test_processes_that_die_over_every_shard_end_the_run(tmp_path, monkeypatch):
    """A model that is too large for the memory would else cost its loading for every shard."""
    pool = _Pool(Settings(), (str(tmp_path), False, Worker))
    monkeypatch.setattr(pool, "start", lambda device: None)
    todo = deque(Shard(f"/in/{k}.tar", str(k)) for k in range(20))
    deaths = []
    with pytest.raises(TTDError, match=r"over every shard \(exit code -9\)"):
        for _ in range(100):
            pipe, _ = multiprocessing.Pipe()
            pool._processes[pipe] = SimpleNamespace(join=lambda: None, exitcode=-9)
            pool._devices[pipe], pool._work[pipe] = "cpu", todo.popleft()
            deaths += [one.state for one in pool._died(pipe, todo)] or [""]
    assert len(deaths) == DEATHS**2 - 1 and len(os.listdir(tmp_path / "_failed")) == DEATHS


def test_a_word_that_is_twice_in_a_caption_is_one_tag():
    word = {"word": "dog", "selected": True, "norm": 1.0}
    stats = Stats()
    _add(stats, {"height": 2, "width": 2, "words": [word, {**word, "selected": False}, word]})
    assert (stats.selected, stats.tags, stats.mean_tags) == (2, 1, 1.0)
    assert stats.tags_per_caption.tolist()[:3] == [0, 1, 0]
