"""Running a plan: again, after a kill, on a full disk, and the command that does it."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
from paths import ROOT
from small_releases import make, mask, values_of, voc_release

from core.data.prepare import make_plan, run_plan
from core.errors import TTDError


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "prepare_dataset", ROOT / "tools" / "prepare_dataset.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def test_again_changes_nothing_and_a_broken_run_goes_on(tmp_path):
    voc_release(tmp_path / "s")
    make("VOC2012", tmp_path / "s", tmp_path / "r")
    before = files(tmp_path / "r/VOC2012/validation/mask") | files(
        tmp_path / "r/VOC2012/validation/image"
    )
    report = make("VOC2012", tmp_path / "s", tmp_path / "r")
    assert (report.made, report.kept) == (0, 2)
    after = files(tmp_path / "r/VOC2012/validation/mask") | files(
        tmp_path / "r/VOC2012/validation/image"
    )
    assert before == after
    gone = tmp_path / "r/VOC2012/validation/mask/2007_2.png"
    want = gone.read_bytes()
    gone.unlink()
    (gone.parent / ".2007_2.png.part").write_bytes(want[:20])  # what a kill leaves
    report = make("VOC2012", tmp_path / "s", tmp_path / "r")
    assert (report.made, report.kept) == (1, 1) and gone.read_bytes() == want
    assert not list((tmp_path / "r").rglob(".*.part"))


def test_nothing_half_when_the_disk_is_full(tmp_path, monkeypatch):
    voc_release(tmp_path / "s")

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device", str(self))

    plan = make_plan("VOC2012", tmp_path / "s", tmp_path / "r")
    (tmp_path / "r/VOC2012/validation").mkdir(parents=True)
    (tmp_path / "r/VOC2012/validation/prepared.json").write_text(json.dumps(plan.identity))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        TTDError, match="No space left on device.*resumes where it stopped"
    ) as caught:
        run_plan(plan)
    assert "\n" not in str(caught.value) and not list((tmp_path / "r").rglob("mask/*"))
    monkeypatch.undo()
    assert run_plan(make_plan("VOC2012", tmp_path / "s", tmp_path / "r")).made == 2


def test_hard_links(tmp_path):
    voc_release(tmp_path / "s")
    original = tmp_path / "s/VOCdevkit/VOC2012/JPEGImages/2007_1.jpg"
    for link in (False, True, True):
        root = tmp_path / f"r{link}"
        make("VOC2012", tmp_path / "s", root, link=link, overwrite=True)
        made = root / "VOC2012/validation/image/2007_1.jpg"
        assert (
            os.path.samefile(made, original) == link and made.read_bytes() == original.read_bytes()
        )
    assert not list(tmp_path.rglob(".*.part"))


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    voc_release(tmp_path / "s")
    own = tmp_path / "r/VOC2012/validation/mask/mine.png"
    mask(own, values_of([1]))
    before = own.read_bytes()
    with pytest.raises(TTDError, match="not made by this tool"):
        make("VOC2012", tmp_path / "s", tmp_path / "r")
    assert own.read_bytes() == before


def test_the_command_says_what_it_did(tmp_path, script, capsys):
    voc_release(tmp_path / "s")
    arguments = ["VOC2012", "--source", str(tmp_path / "s"), "--root", str(tmp_path / "r")]
    assert script.main(arguments) == 0
    assert "2 made, 0 there already, 0 left out" in capsys.readouterr().out
    (tmp_path / "s/VOCdevkit/VOC2012/SegmentationClass/2007_1.png").unlink()
    assert script.main([*arguments, "--overwrite"]) == 2
    captured = capsys.readouterr()
    assert (
        "1 left out" in captured.out
        and "2007_1: " in captured.err
        and "no such file" in captured.err
    )


def test_nothing_made_is_one_line_about_that(tmp_path, script):
    voc_release(tmp_path / "s")
    for path in (tmp_path / "s/VOCdevkit/VOC2012/SegmentationClass").iterdir():
        path.unlink()
    arguments = ["VOC2012", "--source", str(tmp_path / "s"), "--root", str(tmp_path / "r")]
    with pytest.raises(TTDError, match="nothing could be made"):
        script.main(arguments)
