"""TCL's loss and its gradients in several gloo processes, as the trainer averages them."""

import functools
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


@functools.cache  # processes are slow to start
def run_processes(folder: Path, world: int, parity: bool) -> tuple[list[dict], dict]:
    """Terms of every process, and mean gradients by name; `folder` holds tcl.pth and batch.pt."""
    mp.start_processes(_process, (str(folder), world, parity), nprocs=world, start_method="spawn")
    results = [torch.load(folder / f"rank{rank}.pt") for rank in range(world)]
    gradients = results[0]["gradients"]
    for other in results[1:]:  # all have the means
        assert all(torch.equal(other["gradients"][name], g) for name, g in gradients.items())
    return [one["terms"] for one in results], gradients


def _process(rank: int, folder: str, world: int, parity: bool) -> None:
    from core.backbones import load_backbone
    from core.tcl.config import LossConfig
    from core.tcl.model import trained_parameters
    from core.tcl.objective import tcl_loss
    from core.training.distributed import Ranks

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet{world}{parity}", timedelta(minutes=2), world, rank
    )
    backbone = load_backbone("TCL", weights=f"{folder}/tcl.pth").double()
    images, texts, noise = torch.load(f"{folder}/batch.pt")
    mine = slice(rank * len(images) // world, (rank + 1) * len(images) // world)
    trained = trained_parameters(backbone)
    terms, _ = tcl_loss(
        backbone,
        images[mine],
        texts[mine],
        LossConfig(parity=parity, chunk=3),
        ranks=Ranks(rank, world),
        noise=noise[mine],
    )
    sum(terms.values()).backward()
    gradients = {}
    for name, parameter in trained.items():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        dist.all_reduce(gradient)
        gradients[name] = gradient / world
    values = {name: value.item() for name, value in terms.items()}
    torch.save({"terms": values, "gradients": gradients}, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()
