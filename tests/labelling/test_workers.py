"""Which workers there are, what they are told, and when they are given up."""

import json
import multiprocessing
import os
from collections import deque
from types import SimpleNamespace

import pytest

from core.errors import TTDError
from core.labelling.engines.ray_data import DIED, Actor, Cluster, Tries, _resources, unless_all_die
from core.labelling.labeller import _called
from core.labelling.settings import Settings
from core.labelling.shard import Report, Shard, Worker
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


class Killed(BaseException):
    """The end of a worker's process."""


class Deadly(Worker):
    """A worker that shard 1 kills."""

    def __call__(self, shard):
        if shard.name == "1":
            raise Killed
        return Report(shard.name, "made")


def by_ray(shards, out):
    """The reports by way of actors that Ray starts again, with what they had, as often as needed.

    Shards of a block travel together: after a death, the block begins with the first again.
    """
    tries, found = Tries(), []
    for block in shards:
        for _ in range(20):
            actor, rows = Actor(Settings(), str(out), False, Deadly, tries), []
            try:
                for shard in block:
                    rows.append(actor({"url": [shard.url], "name": [shard.name]}))
            except Killed:
                continue
            found += [Report(**{name: value[0] for name, value in row.items()}) for row in rows]
            break
    return found


@pytest.mark.parametrize("size", [1, 4])
def test_a_shard_that_kills_rays_workers_fails_and_the_others_do_not(tmp_path, size):
    shards = [Shard(f"/in/{k}.tar", str(k)) for k in range(8)]
    reports = by_ray([shards[k : k + size] for k in range(0, 8, size)], tmp_path)
    assert [one.shard for one in reports] == list("01234567")
    assert [one.shard for one in reports if one.state != "made"] == ["1"]
    assert reports[1].state == "failed"
    assert reports[1].reason == (
        "3 workers died over it, out of memory perhaps: use fewer --workers, or more "
        "--cpus-per-worker"
    )
    listed = json.loads((tmp_path / "_failed/1.json").read_text())
    assert listed == {"shard": "/in/1.tar", "name": "1", "reason": reports[1].reason}


def test_a_worker_of_ray_may_die_three_times_over_a_shard(tmp_path):
    """The fourth worker says so, the third one still tries."""
    tries = Tries()
    row = {"url": ["/in/1.tar"], "name": ["1"]}
    for _ in range(3):
        with pytest.raises(Killed):
            Actor(Settings(), str(tmp_path), False, Deadly, tries)(row)
    assert Actor(Settings(), str(tmp_path), False, Deadly, tries)(row)["state"] == ["failed"]
    with pytest.raises(Killed):  # reported: whoever asks again starts anew
        Actor(Settings(), str(tmp_path), False, Deadly, tries)(row)


def test_an_output_that_is_gone_stops_ray(tmp_path):
    (tmp_path / "out").write_text("a file")
    tries = SimpleNamespace(begin=lambda name: 4, end=lambda name: None)
    actor = Actor(Settings(), str(tmp_path / "out"), False, Deadly, tries)
    report = actor({"url": ["/in/1.tar"], "name": ["1"]})
    assert report["state"] == ["stopped"] and "cannot be written" in report["reason"][0]


def test_workers_of_ray_that_die_over_every_shard_end_the_run():
    lost, made = Report("a", "failed", reason=DIED), Report("b", "made")
    assert list(unless_all_die([lost, lost, made, lost, lost])) == [lost, lost, made, lost, lost]
    seen = []
    with pytest.raises(TTDError, match=r"die over every shard, .* use fewer --workers"):
        for one in unless_all_die([made, lost, lost, lost, made]):
            seen.append(one)
    assert seen == [made, lost, lost, lost]


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
