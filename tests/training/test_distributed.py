"""Several processes of one run: the same training as one, one fate, one voice."""

import os
import socket
import subprocess
import sys
import threading

import pytest
import rank_job
import torch
from paths import ROOT
from small_pairs import write_set

from core.backbones.lora.adapter import read_adapter
from core.errors import TTDError
from core.training.distributed import PeerError, Ranks, buckets, joined, local_rank


@pytest.fixture
def settings(small_clip, tmp_path):
    write_set(tmp_path / "pairs", 12)
    path = tmp_path / "small.yaml"
    path.write_text(
        f"arch: local-dir:{small_clip}\nroot: {tmp_path / 'pairs'}\ntag: small\n"
        "steps: 4\nbatch: 4\nlr: 1e-3\nwarmup: 1\ncheckpoint_every: 2\nlog_every: 1\n"
        "device: cpu\nthreads: 1\nlora: {rank: 2}\ndistill: {teacher: ema, ema_decay: 0.5}\n"
    )
    return path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def launch(settings, out, world, *options, each=None):
    """The script in `world` processes as torchrun starts them: [(exit code, stdout, stderr)]."""
    common = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TTD_CACHE": str(settings.parent / "cache"),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(world),
    }
    processes = []
    for rank in range(world):
        own = [*options, *((each or {}).get(rank, []))]
        processes.append(
            subprocess.Popen(
                [
                    sys.executable,
                    str(ROOT / "train_ttd.py"),
                    "--config",
                    str(settings),
                    "--out",
                    str(out),
                    *map(str, own),
                ],
                env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [process.communicate(timeout=600) for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


def test_one_process_alone_needs_no_group():
    ranks = Ranks()
    values = torch.tensor([1.0, 2.0])
    assert ranks.first and ranks.gather_objects("a") == ["a"]
    assert torch.equal(ranks.all_reduce_mean(values), values)
    assert ranks.all_gather(values) is values and ranks.any(True, False) == [True, False]
    with ranks.together():
        pass
    with pytest.raises(TTDError, match="mine"), ranks.together():
        raise TTDError("mine")


def test_buckets_hold_every_tensor_once():
    tensors = [torch.zeros(n) for n in (10, 1, 30, 5, 5)]  # 40, 4, 120, 20, 20 bytes
    assert buckets(tensors, 44) == [slice(0, 2), slice(2, 3), slice(3, 5)]
    assert buckets(tensors, 1) == [slice(i, i + 1) for i in range(5)]
    assert buckets(tensors, 10**9) == [slice(0, 5)] and buckets([], 5) == []


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_is_told_once_however_deep_it_was_met(failing):
    """Blocks within blocks: the process that met it raises it, the others a `PeerError`."""
    barrier, said, ends = threading.Barrier(2, timeout=30), [None, None], [None, None]

    class Fake(Ranks):
        def any(self, *flags):
            return [any(some) for some in zip(*self.gather_objects(flags), strict=True)]

        def gather_objects(self, value):
            barrier.wait()
            said[self.rank] = value
            barrier.wait()
            return list(said)

    def process(rank):
        ranks = Fake(rank, 2)
        try:
            with ranks.together(), ranks.together():
                if rank == failing:
                    raise TTDError("no data here")
        except TTDError as error:
            ends[rank] = error

    threads = [threading.Thread(target=process, args=(rank,)) for rank in (0, 1)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert type(ends[failing]) is TTDError and str(ends[failing]) == "no data here"
    assert type(ends[1 - failing]) is PeerError


@pytest.mark.parametrize("world", [2, 3])
def test_collective_calls_and_their_gradients(world, tmp_path):
    """Against one process by brute force: means, gathered rows, gradients, errors."""
    results = run_ranks(world, tmp_path)
    rows = [torch.arange(4.0).view(2, 2) + 10 * rank for rank in range(world)]
    whole = torch.cat(rows).requires_grad_()
    weight = torch.arange(float(2 * world * 2)).view(-1, 2) + 1
    (weight * whole.square()).sum().backward()
    for rank, found in enumerate(results):
        assert torch.equal(found["gathered"], whole.detach())
        # Every process computes the whole loss: its rows get the gradient `world` times.
        assert torch.equal(found["gradient"], world * whole.grad[2 * rank : 2 * rank + 2])
        assert torch.equal(found["mean"], torch.stack(rows).mean(0))
        assert all(torch.equal(mean, torch.stack(rows).mean(0)) for mean in found["averaged"])
        assert found["objects"] == [f"rank {r}" for r in range(world)]
        assert found["first"] == "rank 0" and torch.equal(found["broadcast"], rows[0])
        assert found["any"] == [True, False, True]
        kind = "TTDError" if rank == 1 else "PeerError"
        assert found["error"] == f"{kind}: rank 1 failed"
    if world == 2:
        check_lines(results, tmp_path)


def check_lines(results, folder):
    """Loss and gradient norm of every step: AdamW would hide a sum in place of a mean."""
    for kind in ("LineTask", "ContrastTask"):
        alone = rank_job.line(Ranks(), folder / "alone", kind)
        assert len(alone["losses"]) == 5 and min(alone["norms"]) > 0
        both = [found[kind] for found in results]
        for found in both:
            assert found["losses"] == pytest.approx(alone["losses"], rel=1e-5)
            assert found["norms"] == pytest.approx(alone["norms"], rel=1e-5)
            assert found["slope"] == pytest.approx(alone["slope"], rel=1e-5)
        seen = [one + two for one, two in zip(both[0]["seen"], both[1]["seen"], strict=True)]
        assert seen == alone["seen"]


def run_ranks(world, folder):
    """tests/support/rank_job.py in `world` processes: what each of them found."""
    port = str(free_port())
    script = ROOT / "tests/support/rank_job.py"
    processes = []
    for rank in range(world):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        env = {**os.environ, **own, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, str(script), str(folder)]
        processes.append(subprocess.Popen(command, env={**env, "OMP_NUM_THREADS": "1"}))
    assert [process.wait(300) for process in processes] == [0] * world
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


@pytest.mark.slow
def test_two_processes_of_torchrun_equal_one(settings, tmp_path):
    (alone,) = launch(settings, tmp_path / "one", 1)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TTD_CACHE": str(settings.parent / "cache")}
    both = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            str(ROOT / "train_ttd.py"),
            "--config",
            str(settings),
            "--out",
            str(tmp_path / "two"),
        ],
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert alone[0] == 0 and both.returncode == 0, (alone, both.stderr)
    assert both.stdout.count("2 processes") == 1  # only the first speaks
    a, b = (read_adapter(tmp_path / name / "small.safetensors")[0] for name in ("one", "two"))
    assert max(float(value.abs().max()) for name, value in a.items() if "lora_B" in name) > 1e-4
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-5


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(settings, tmp_path):
    """Stopped at a checkpoint of one process, finished by two."""
    (alone,) = launch(settings, tmp_path / "one", 1)
    assert alone[0] == 0, alone
    stop = (
        "import itertools, sys, train_ttd; from core.training.trainer import Trainer\n"
        "run, count = Trainer.run, itertools.count()\n"
        "Trainer.run = lambda self, progress, ask: run(self, progress, lambda: next(count) == 1)\n"
        f"args = ['--config', {str(settings)!r}, '--out', {str(tmp_path / 'two')!r}]\n"
        "sys.exit(train_ttd.main(args))"
    )
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TTD_CACHE": str(settings.parent / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    part = subprocess.run(
        [sys.executable, "-c", stop], env=env, capture_output=True, text=True, timeout=600
    )
    assert part.returncode == 130, part.stderr
    both = launch(settings, tmp_path / "two", 2)
    assert [code for code, *_ in both] == [0, 0] and "resuming after step 2" in both[0][1], both
    a, b = (read_adapter(tmp_path / name / "small.safetensors")[0] for name in ("one", "two"))
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-5


@pytest.mark.slow
def test_one_process_that_fails_ends_all_with_one_line(settings, tmp_path):
    """The second process finds other data: the others do not wait, and one line is said."""
    results = launch(settings, tmp_path / "run", 2, each={1: ["--limit", "5"]})
    assert [code for code, *_ in results] == [2, 2]
    said = "".join(error for *_, error in results)
    assert said.count("other pairs or base weights") == 1 and "Traceback" not in said, said
    results = launch(settings, tmp_path / "run", 2, each={1: ["--data", "nowhere"]})
    said = "".join(error for *_, error in results)
    assert [code for code, *_ in results] == [2, 2] and said.count("no pairs called nowhere") == 1
    results = launch(settings, tmp_path / "run", 2, "--lr", "fast")
    assert {code for code, *_ in results} == {2}


@pytest.mark.slow
def test_pictures_that_fail_in_one_process_end_all(settings, tmp_path):
    for path in (tmp_path / "pairs/cc3m/train/image").iterdir():
        path.write_bytes(b"")
    results = launch(settings, tmp_path / "run", 2)
    said = "".join(error for *_, error in results)
    assert [code for code, *_ in results] == [2, 2] and said.count(
        "in a row cannot be read"
    ) == 1, said


@pytest.mark.parametrize(
    "wrong",
    [
        {"RANK": "one"}, {"RANK": "-1"}, {"WORLD_SIZE": "0"}, {"WORLD_SIZE": "2.5"},
        {"RANK": "2"}, {"WORLD_SIZE": "9" * 5000}, {"MASTER_ADDR": ""}, {"MASTER_PORT": "x"},
        {"MASTER_PORT": "70000"}, {"MASTER_PORT": ""},
    ],
)  # fmt: skip
def test_an_odd_environment_is_one_line(monkeypatch, wrong):
    right = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in {**right, **wrong}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TTDError, match=next(iter(wrong))) as error, joined("cpu"):
        pass
    assert len(str(error.value)) < 200


def test_an_empty_environment_is_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")
    with joined("cpu") as ranks:
        assert (ranks.rank, ranks.world, local_rank()) == (0, 1, 0)
    monkeypatch.setenv("LOCAL_RANK", "x")
    with pytest.raises(TTDError, match="LOCAL_RANK=x"):
        local_rank()
