"""Which models a page offers: those whose files lie there."""

from pathlib import Path

import pytest
from paths import ROOT

from core.app.models import Model, Offer, offer, own_threshold, with_given
from core.errors import TTDError


def put(folder, *names):
    """Empty files."""
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()


def test_what_ships_is_offered_with_its_adapters():
    found = offer(ROOT / "weights")
    assert [model.name for model in found.models][:2] == ["tiny", "tiny-TCL"]
    assert list(found.model("tiny").adapters) == ["tiny+TTD"]
    assert list(found.model("tiny-TCL").adapters) == ["tiny-TCL+TTD"]


def test_a_model_is_offered_when_all_its_files_are_there_and_else_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    put(tmp_path, "tcl.pth", "TCL+TTD.pt", "CLIP+a.safetensors", "CLIP+notes.txt")
    found = offer(tmp_path)
    assert [model.name for model in found.models] == ["tiny"]
    assert found.missing == (
        f"CLIP: put ViT-B-16.pt into {tmp_path.name}/",
        f"TCL: put ViT-B-16.pt into {tmp_path.name}/",
    )
    put(tmp_path, "ViT-B-16.pt", "tiny-grounder/model.safetensors", "clip-vg.pth")
    found = offer(tmp_path)
    assert [model.name for model in found.models] == ["tiny", "CLIP", "TCL"] and not found.missing
    assert found.model("TCL").adapters == {"TCL+TTD": tmp_path / "TCL+TTD.pt"}
    assert found.model("CLIP").adapters == {"CLIP+a": tmp_path / "CLIP+a.safetensors"}
    assert list(found.grounders) == ["clip-vg", "tiny-grounder"]


def test_what_the_command_line_names_comes_first():
    base = Offer((Model("tiny", "tiny"), Model("TCL", "TCL", Path("tcl.pth"))), {})
    assert with_given(base, "tiny", None, None, None) == base
    assert [m.name for m in with_given(base, "TCL", None, None, None).models] == ["TCL", "tiny"]
    given = with_given(base, "TCL", Path("my.pth"), Path("a/b.pt"), Path("g.pth"))
    assert [m.name for m in given.models] == ["TCL (my.pth)", "tiny", "TCL"]
    assert given.models[0].weights == Path("my.pth")
    assert given.models[0].adapters == {"b": Path("a/b.pt")} and list(given.grounders) == ["g"]


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("local-dir:/srv/private/garden", "local-dir:garden"),
        ("ViT-B-16:/srv/private/a.pt", "ViT-B-16:a.pt"),
        ("ViT-B-16:openai", "ViT-B-16:openai"),
        ("hf-hub:ORG/NAME", "hf-hub:ORG/NAME"),
    ],
)
def test_a_name_does_not_tell_where_a_model_is(arch, name):
    (model,) = with_given(Offer((), {}), arch, None, None, None).models
    assert (model.name, model.arch) == (name, arch)


def test_a_name_that_is_not_offered_is_an_error_that_lists_the_others():
    with pytest.raises(TTDError, match="no model 'x' here; choose one of tiny"):
        Offer((Model("tiny", "tiny"),), {}).model("x")


def test_the_threshold_that_suits_a_model():
    assert own_threshold(Model("tiny", "tiny")) == 0.63  # of its config
    assert own_threshold(Model("CLIP", "CLIP")) == 0.40  # as published
