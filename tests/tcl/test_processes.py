"""One process, two and four: the same loss and gradients of the same batch."""

import pytest
import torch
from oracle_tcl import double
from oracle_tcl_loss import per_rank
from small_clip import random_images
from small_tcl import save, small_weights, texts
from tcl_processes import run_processes

PAIRS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small TCL and a batch of eight pairs."""
    folder = tmp_path_factory.mktemp("processes")
    save(folder / "tcl.pth", small_weights())
    noise = torch.rand(PAIRS, 1, 8, 8, generator=torch.Generator().manual_seed(3)).double()
    images = random_images(PAIRS, 3, 32, 32).double()
    torch.save((images, texts(PAIRS).double(), noise), folder / "batch.pt")
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """Terms and gradients of one process."""
    terms, gradients = run_processes(folder, 1, False)
    return terms[0], gradients


@pytest.fixture(scope="module")
def weights():
    return double(small_weights())


def literal(weights, folder, world, parity):
    """The loops' terms of every process."""
    images, raw, noise = torch.load(folder / "batch.pt")
    with torch.no_grad():
        ranks = per_rank(weights, images, raw, noise[:, 0], world, parity)
    return [{name: value.item() for name, value in terms.items()} for terms in ranks]


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_share_the_loss_of_the_whole_batch(folder, alone, world):
    terms, gradients = run_processes(folder, world, False)
    for name, value in alone[0].items():
        assert sum(one[name] for one in terms) / world == pytest.approx(value, rel=1e-9), name
    for name, gradient in alone[1].items():
        scale = max(float(gradient.abs().max()), 1e-6)
        assert (gradients[name] - gradient).abs().max() / scale < 1e-8, name


@pytest.mark.parametrize("parity", [False, True])
def test_each_process_has_the_terms_of_the_loops(weights, folder, parity):
    terms, _ = run_processes(folder, 2, parity)
    for got, want in zip(terms, literal(weights, folder, 2, parity), strict=True):
        for name, value in want.items():
            assert got[name] == pytest.approx(value, rel=1e-9), name


def test_parity_differs_where_the_released_code_mixes_masks(folder, alone):
    terms, _ = run_processes(folder, 2, True)
    means = {name: sum(one[name] for one in terms) / 2 for name in alone[0]}
    assert abs(means["tclf_loss"] - alone[0]["tclf_loss"]) > 1e-6
    for name in ("tcli_loss", "neg_area_loss", "tv_img_loss", "tv_mask_loss"):
        assert means[name] == pytest.approx(alone[0][name], rel=1e-9), name
