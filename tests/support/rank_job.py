"""One process of several, for tests/training/test_distributed.py; stores its findings.

RANK=0 WORLD_SIZE=2 MASTER_ADDR=... MASTER_PORT=... python rank_job.py JOB FOLDER
"""

import sys
from contextlib import closing
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import line_task

from core.errors import TTDError
from core.training.config import RunConfig
from core.training.distributed import joined
from core.training.trainer import Trainer


def collectives(ranks):
    """Every collective call once."""
    own = (torch.arange(4.0).view(2, 2) + 10 * ranks.rank).requires_grad_()
    gathered = ranks.all_gather(own)
    weight = torch.arange(float(gathered.numel())).view(-1, 2) + 1
    (weight * gathered.square()).sum().backward()
    found = {
        "gathered": gathered.detach(),
        "gradient": own.grad,
        "mean": ranks.all_reduce_mean(own.detach().clone()),
        "objects": ranks.gather_objects(f"rank {ranks.rank}"),
        "first": ranks.broadcast_object(f"rank {ranks.rank}"),
        "broadcast": own.detach().clone(),
        "any": ranks.any(ranks.rank == 1, False, True),
    }
    ranks.broadcast([found["broadcast"]])
    found["averaged"] = [own.detach().clone() for _ in range(5)]
    ranks.average(found["averaged"], bucket=30)  # two tensors of 16 bytes in each bucket
    try:
        with ranks.together():
            if ranks.rank == 1:
                raise TTDError("rank 1 failed")
    except TTDError as error:
        found["error"] = f"{type(error).__name__}: {error}"
    return found


def line(ranks, folder, kind):
    """Five steps of a line task; processes begin with other parameters, the first one's count."""
    config = RunConfig(
        steps=5, batch=4, lr=0.1, warmup=2, grad_clip=0.5, log_every=1, out=str(folder / kind)
    )
    task = getattr(line_task, kind)(config, line_task.on_a_line(7))
    with torch.no_grad():
        task.offset.fill_(0.5 + ranks.rank)
    losses, norms = [], []

    def progress(step, values):
        losses.append(values["loss"])
        norms.append(values["grad_norm"])

    with closing(Trainer(task, ranks=ranks)) as trainer:
        trainer.run(progress)
    return {
        "losses": losses,
        "norms": norms,
        "slope": float(task.slope.detach()),
        "seen": task.seen,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with joined("cpu") as ranks:
        found = collectives(ranks)
        if ranks.world == 2:
            for kind in ("LineTask", "ContrastTask"):
                found[kind] = line(ranks, folder, kind)
        torch.save(found, folder / f"{ranks.rank}.pt")
