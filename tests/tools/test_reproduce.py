"""tools/reproduce.py: what is listed, fetched, run and compared, from a server on this machine."""

import contextlib
import importlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
import reproduce
import yaml
from file_server import File, Server
from paths import ROOT
from reproduce_table import Row, as_json, markdown, table
from reproduce_targets import all_targets
from small_releases import cityscapes_release, voc_release

from core.data.download.catalogue import read_catalogue
from core.errors import TTDError

TOLD = {"what": "a thing", "page": "https://page", "licence": "none", "source": "a test"}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """An empty machine: weights, sets and results below tmp_path; a list with a server's files."""
    monkeypatch.setattr(reproduce, "own_weights", lambda: tmp_path / "weights")
    (tmp_path / "weights").mkdir()
    with Server() as server:
        releases = {}
        for name in ("ViT-B-16.pt", "tcl.pth", "TCL+TTD.pt"):
            server.routes[f"/{name}"] = File(name.encode())
            releases[name] = {**TOLD, "to": f"weights/{name}", "url": f"{server.url}/{name}"}
        voc_release(tmp_path / "release")
        with tarfile.open(tmp_path / "voc.tar", "w") as packed:
            packed.add(tmp_path / "release" / "VOCdevkit", "VOCdevkit")
        server.routes["/voc.tar"] = File((tmp_path / "voc.tar").read_bytes())
        url = f"{server.url}/voc.tar"
        releases["VOC2012"] = {**TOLD, "to": "voc.tar", "url": url, "unpack": "VOC2012"}
        for name in ("Cityscapes-images", "Cityscapes-labels"):
            releases[name] = {**TOLD, "to": f"{name}.zip", "unpack": "Cityscapes"}
        (tmp_path / "list.yaml").write_text(yaml.safe_dump(releases))
        yield tmp_path, server


def options(folder, *more):
    line = ["--root", str(folder / "sets"), "--out", str(folder / "out"), "--allow-http"]
    return [*line, "--releases", str(folder / "list.yaml"), *more]


class Scripts:
    """In the place of the scripts: notes every command, prepares sets, writes scores."""

    def __init__(self, monkeypatch, scores):
        self.lines, self.scores = [], scores
        monkeypatch.setattr(reproduce, "run_script", self)

    def __call__(self, words):
        self.lines.append(list(words))
        if words[0] == "tools/prepare_dataset.py":
            import prepare_dataset

            assert prepare_dataset.main(words[1:]) == 0
        if "--json" in words:
            with open(words[words.index("--json") + 1], "w") as file:
                json.dump(self.scores.pop(0), file)
        return "results/FOLDER"

    def names(self):
        return [line[0] for line in self.lines]


def test_everything_that_targets_need_is_in_the_list_that_ships():
    releases = read_catalogue(ROOT / "configs" / "downloads.yaml")
    used = set()
    for target in all_targets().values():
        used |= {*target.needs, *target.releases}
    assert used == set(releases)


def test_published_rows_of_tags_are_what_their_own_precision_and_recall_give():
    from reproduce_targets import TAG_ROWS

    for p, r, f1, *_ in TAG_ROWS:
        assert 2 * p * r / (p + r) == pytest.approx(f1, abs=0.06)
    for target in ("voc", "coco", "ade", "cityscapes", "stuff", "context"):
        rows = all_targets()[target].measure(dry(), lambda words: "")
        iou, fpr, fnr = (row.published for row in rows)
        assert iou / 100 + fpr + fnr == pytest.approx(1, abs=0.0015), target


def dry():
    return reproduce.places_of(reproduce.get_args_parser().parse_args(["--out", "/nowhere"]))


def test_a_dry_run_asks_nothing_and_writes_nothing(machine, capsys):
    folder, server = machine
    before = sorted(folder.rglob("*"))
    assert reproduce.main(options(folder, "--dry-run", "--only", "voc", "cityscapes")) == 0
    printed = capsys.readouterr().out
    assert server.asked == [] and sorted(folder.rglob("*")) == before
    assert "VOC2012 [to fetch]: a thing" in printed and "licence: none" in printed
    assert "Cityscapes-images [by hand]" in printed and "from https://page" in printed
    assert "size not published" in printed and "no sum is published" in printed
    assert "$ python tools/prepare_dataset.py VOC2012 --source" in printed
    assert "--data VOC2012 --bg 0.40 --scales 1.0 0.5 1.5 2.0 --pamr --hflip" in printed


def test_from_nothing_to_a_row(machine, monkeypatch, capsys):
    folder, server = machine
    (folder / "out").mkdir()
    scripts = Scripts(monkeypatch, [{"iou": 0.6, "fpr": 0.2, "fnr": 0.2, "scored": 2}])
    assert reproduce.main(options(folder, "--only", "voc", "--device", "cpu")) == 0
    assert scripts.names() == [
        "tools/prepare_dataset.py",
        "produce_masks_from_tags.py",
        "evaluate_segmentation.py",
    ]
    assert "results/FOLDER" in scripts.lines[2]
    made = sorted(path.name for path in (folder / "sets/VOC2012/validation/mask").iterdir())
    assert made == ["2007_1.png", "2007_2.png"]
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("TCL+TTD@VOC2012 [1]"))
    assert line.split() == ["TCL+TTD@VOC2012", "[1]", "mIoU", "%", "60.0", "61.1", "-1.1"]
    rows = json.loads((folder / "out" / "rows.json").read_text())["rows"]
    assert [row["published"] for row in rows] == [61.1, 0.185, 0.204] and rows[0]["items"] == 2
    asked = len(server.asked)
    scripts.scores, scripts.lines = [{"iou": 0.6, "fpr": 0.2, "fnr": 0.2}], []
    assert reproduce.main(options(folder, "--only", "voc")) == 0
    assert len(server.asked) == asked  # nothing is fetched or prepared again
    assert scripts.names() == ["produce_masks_from_tags.py", "evaluate_segmentation.py"]


def test_what_only_people_can_fetch_is_named_and_the_rest_goes_on(machine, monkeypatch, capsys):
    folder, server = machine
    (folder / "out").mkdir()
    scripts = Scripts(monkeypatch, [{"iou": 0.5, "fpr": 0.2, "fnr": 0.3}])
    assert reproduce.main(options(folder, "--only", "cityscapes", "voc")) == 2
    said = capsys.readouterr()
    assert "TCL+TTD@VOC2012" in said.out
    lines = said.err.splitlines()
    assert len(lines) == 2 and all("cityscapes: " in line for line in lines)
    assert "Cityscapes-images.zip is not there: open https://page (licence: none)" in lines[0]
    assert "produce_masks_from_tags.py" in scripts.names()


def test_by_hand_then_the_same_command_goes_on(machine, monkeypatch):
    folder, server = machine
    (folder / "out").mkdir()
    cityscapes_release(folder / "city", "labelIds", [7, 8, 11])
    for name, part in (("images", "leftImg8bit"), ("labels", "gtFine")):
        place = folder / "sets" / "downloads" / f"Cityscapes-{name}"
        shutil.make_archive(str(place), "zip", folder / "city", part)
    scripts = Scripts(monkeypatch, [{"iou": 0.27, "fpr": 0.25, "fnr": 0.48}])
    assert reproduce.main(options(folder, "--only", "cityscapes")) == 0
    assert len(scripts.lines) == 3


def test_a_link_that_has_moved(machine, capsys):
    folder, server = machine
    server.routes["/tcl.pth"] = (404, {})
    assert reproduce.main(options(folder, "--only", "demo")) == 2
    assert "the link has moved (its page: https://page; put it to" in capsys.readouterr().err


def test_scripts_are_processes_of_their_own(tmp_path, capfd):
    assert reproduce.run_script(["tools/prepare_grounding.py", "--help"]).endswith("right")
    with pytest.raises(TTDError, match="prepare_dataset.py ended with exit code 2; what it said"):
        nowhere = str(tmp_path / "nowhere")
        reproduce.run_script(["tools/prepare_dataset.py", "VOC2012", "--source", nowhere])
    said = capfd.readouterr()
    assert "no such folder" in said.err and "$ python tools/prepare_grounding.py" in said.out


def test_without_allow_http_nothing_is_asked(machine, capsys):
    folder, server = machine
    line = [word for word in options(folder, "--only", "demo") if word != "--allow-http"]
    assert reproduce.main(line) == 2 and server.asked == []
    assert capsys.readouterr().err.count("plain http") == 3


def test_names_that_there_are_not(machine):
    folder, _ = machine
    with pytest.raises(TTDError, match="--only vok: there is no such target; did you mean voc"):
        reproduce.main(options(folder, "--only", "vok"))
    with pytest.raises(TTDError, match="the list has no CC3M-TagMask"):
        reproduce.main(options(folder, "--only", "tags"))
    names = [target.name for target in reproduce.chosen(["grounding", "tcl", "demo"])]
    assert names[0] == "demo" and len(names) == 13 and "tags" not in names


def test_tags_and_grounding_read_what_the_evaluators_write(tmp_path):
    places = reproduce.places_of(reproduce.get_args_parser().parse_args(["--out", str(tmp_path)]))
    best = {"precision": 1, "recall": 1, "f1": 1, "accuracy": 1, "average_precision": 1}
    own = dict(zip(best, (0.9, 0.8, 0.85, 0.7, 0.95), strict=True))
    name = "TCL_224_[1.0]@pixel+TTD"
    rows = [{"name": name, **own}, {"name": "at the best threshold", **best}]
    (tmp_path / "tags.json").write_text(json.dumps({"rows": rows}))
    found = all_targets()["tags"].measure(places, lambda words: "")
    last = [(row.measure, row.ours, row.published) for row in found if row.name == name]
    assert last[0] == ("precision %", 90.0, 88.3) and last[-1] == ("mAP %", 95.0, 93.7)
    assert all(row.ours is None for row in found if row.name != name)
    scores = {"scores": {"unc testA": {"acc@0.5": 0.8}}}
    (tmp_path / "grounding-unc.json").write_text(json.dumps(scores))
    found = all_targets()["grounding-unc"].measure(places, lambda words: "")
    assert [(row.ours, row.published) for row in found] == [
        (None, 84.29), (80.0, 87.76), (None, 78.43)]  # fmt: skip


def test_rows_of_tcl_have_both_protocols(tmp_path):
    places = reproduce.places_of(reproduce.get_args_parser().parse_args(["--out", str(tmp_path)]))
    rows = [{"data": "VOC20", "pamr": False, "miou": 0.7, "images": 1449}]
    (tmp_path / "tcl-voc.json").write_text(json.dumps(rows))
    lines = []
    found = all_targets()["tcl-voc"].measure(places, lines.append)
    assert [(row.name, row.ours, row.published) for row in found] == [
        ("TCL@VOC2012, PAMR", None, 55.0), ("TCL@VOC2012, no PAMR", None, 51.2),
        ("TCL@VOC20, PAMR", None, 83.2), ("TCL@VOC20, no PAMR", 70.0, 77.5)]  # fmt: skip
    assert found[-1].items == 1449 and lines[0][0] == "tools/evaluate_tcl.py"


def test_the_table_says_what_differs_and_what_a_rehearsal_is():
    rows = [
        Row("a", "A", "mIoU %", 1.234, 2.0, "ours"),
        Row("a", "A", "mFPR", None, 0.1, "ours", digits=3),
        Row("b", "B", "F1 %", 3.0, None, ""),
    ]
    lines = table(rows, 5).splitlines()
    assert lines[1].split() == ["A", "[1]", "mIoU", "%", "1.2", "2.0", "-0.8"]
    assert lines[2].split() == ["A", "[1]", "mFPR", "-", "0.100"] and lines[3].startswith("B  ")
    assert lines[4] == "[1] ours" and "first 5 images" in lines[5]
    assert markdown(rows).count("|  | ours |") == 2 and "rehearsal" not in markdown(rows)
    assert as_json(rows, 5)["limit"] == 5


def in_process(words):
    """The script itself, in this process; the last line that it prints."""
    printed = io.StringIO()
    module = importlib.import_module(Path(words[0]).stem)
    with contextlib.redirect_stdout(printed):
        assert module.main(words[1:]) == 0, words
    return (printed.getvalue().strip().splitlines() or [""])[-1]


@pytest.mark.slow
def test_the_real_scripts_on_stand_ins(machine, monkeypatch, capsys):
    """TCL of the offline world in the place of tcl.pth, two images in that of VOC."""
    folder, server = machine
    monkeypatch.setattr(reproduce, "run_script", in_process)
    monkeypatch.setattr("core.backbones.tcl.loading.own_weights", lambda: folder / "weights")
    tcl, adapter = ROOT / "weights/tiny-TCL.pth", ROOT / "weights/tiny-TCL+TTD.safetensors"
    server.routes["/tcl.pth"] = File(tcl.read_bytes(), cuts=[1_000_000])
    server.routes["/TCL+TTD.pt"] = File(adapter.read_bytes())
    line = options(folder, "--only", "voc", "--limit", "1", "--device", "cpu")
    assert reproduce.main(line) == 0, capsys.readouterr().err
    rows = json.loads((folder / "out" / "rows.json").read_text())["rows"]
    assert len(rows) == 3 and all(0 <= row["ours"] <= 100 for row in rows)
    assert "a rehearsal, no result" in capsys.readouterr().out
    (made,) = (folder / "out" / "results").iterdir()
    # The released TCL looks at 448 pixels, the world's at 192.
    name = "TCL@VOC2012@OpenAI@[1.0, 0.5, 1.5, 2.0]@192@s=2@hflip@pamr@TTD@bg=0.40@limit=1"
    assert made.name == name
