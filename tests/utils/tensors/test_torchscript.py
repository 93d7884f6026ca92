"""TorchScript archives as data: torch's own loader is the oracle, and nothing in them runs."""

import os
import pickletools
import zipfile

import pytest
import torch
from paths import ROOT
from torch import Tensor, nn

from core.backbones.weights import read_weights
from core.errors import TTDError
from core.utils.tensors.torchscript import script_state

PLACE = "TTD_TEST_PLACE"  # of the file that the hostile archive would write


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 1).half()
        self.register_buffer("turned", torch.rand(2, 3).T)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.turned.sum()


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(2, 3))
        self.register_buffer("number", torch.tensor(5))
        self.layers = nn.Sequential(nn.Linear(3, 2), Inner())
        self.again = self.layers[0]
        self.plain = 7

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + self.weight.sum() + self.number


@pytest.fixture
def archive(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model.pt"
    torch.jit.script(Outer()).save(str(path))
    return path


def test_names_and_tensors_are_those_of_torch(archive):
    want = torch.jit.load(archive).state_dict()
    found = script_state(archive)
    assert list(found) == list(want)
    for name, value in want.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


class Hostile(nn.Module):
    """Writes a file when it is loaded, without a line of Python in the archive."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.rand(3))

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return (self.w, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        made = torch.from_file("TTD_TEST_PLACE", True, 4, dtype=torch.uint8)
        made.fill_(65)
        self.w = state[0] + 0 * made.sum()
        self.training = state[1]

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_what_an_archive_would_run_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.jit.script(Hostile()).save("evil.pt")
    torch.jit.load("evil.pt")
    assert os.path.exists(PLACE)  # so it is hostile: torch's loader ran it
    os.unlink(PLACE)
    with pytest.raises(TTDError, match="evil.pt"):
        read_weights("evil.pt")
    assert not os.path.exists(PLACE)
    for folder in ("core", "tools"):
        for source in (ROOT / folder).rglob("*.py"):
            assert "jit.load(" not in source.read_text(encoding="utf-8"), source


@pytest.mark.parametrize("shared", [True, False])
def test_modules_in_modules_without_end_are_refused(tmp_path, shared):
    """Each level holds the next twice: 2^40 places in a pickle of a few lines."""
    lines = [b"(d"]
    for level in range(1, 41):
        key = b"p%d\n" % level if shared else b""
        got = b"g%d\n" % level if shared else b"(d"
        lines.append(key + b"0")
        lines.append(b"c__torch__\nM\n(tR(dS'a'\n" + got + b"sS'b'\n" + got + b"sb")
    data = b"".join(lines) + b"."
    if shared:
        list(pickletools.genops(data))
    path = tmp_path / "deep.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("deep/data.pkl", data)
        archive.writestr("deep/constants.pkl", b"(t.")
    reason = "more than 100000 parts" if shared else "without tensors|not a readable pickle"
    with pytest.raises(TTDError, match=reason):
        script_state(path)
