"""produce_tags_from_text.py from its command line: results, resuming, refusals, odd inputs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT
from PIL import Image

import produce_tags_from_text as script
from core.backbones import load_backbone
from core.data.images import read_image
from core.data.words import is_stopword
from core.errors import TTDError
from core.maps.views import Views
from core.tags.protocol import SCORERS
from core.tags.scoring import score_batch
from core.tags.selection import select

CAPTIONS = {
    "a": "A red boat, and a dog!",
    "b": "dog",
    "c": "a dog - the cat’s 강아지 🙂",
    "d": "🙂 !!!",
    "e": "lost",
    "f": "two of the two",
    "g": "",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Seven captions; d has no words, e's image is damaged, g is empty."""
    root, random = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for folder in ("image", "json_refined"):
        (root / folder).mkdir()
    for k, (name, text) in enumerate(CAPTIONS.items()):
        Image.fromarray(random.integers(0, 256, (30 + k, 40, 3), dtype=np.uint8)).save(
            root / f"image/{name}.jpg"
        )
        content = json.dumps({"text": text, "tags": ["dog"]})
        (root / f"json_refined/{name}.json").write_text(content, encoding="utf-8")
    (root / "image/e.jpg").write_bytes((root / "image/e.jpg").read_bytes()[:200])
    return root


@pytest.fixture
def arguments(small_clip, world, tmp_path):
    return [
        "--root",
        str(world),
        "--arch",
        f"local-dir:{small_clip}",
        "--device",
        "cpu",
        "--batch",
        "2",
        "--out",
        str(tmp_path / "out"),
    ]


def results(folder):
    """{scorer: rows} of a folder with one run."""
    found = {}
    for path in folder.glob("*.jsonl"):
        if "skipped" not in path.name:
            scorer = path.name.split("@")[1].split(".jsonl")[0]
            found[scorer] = [json.loads(line) for line in path.open(encoding="utf-8")]
    return found


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if "meta" not in path.name}


def test_results_are_what_the_scorers_say(arguments, world, small_clip, tmp_path, capsys):
    assert (
        script.main([*arguments, "--hflip", "--scales", "1.0", "0.5", "--fixed", "--stopwords"])
        == 0
    )
    backbone = load_backbone(f"local-dir:{small_clip}", device="cpu")
    found = results(tmp_path / "out")
    assert set(found) == set(SCORERS)
    for scorer, rows in found.items():
        assert [row["id"] for row in rows] == ["a", "b", "c", "f"]
        for row in rows:
            image = read_image(world / row["image"])
            views = Views(32, (1.0, 0.5), hflip=True)
            one = score_batch(backbone, [image], [CAPTIONS[row["id"]]], views=views)[0]
            stops = torch.tensor([is_stopword(word.text) for word in one.words])
            selected, norms = select(one.scores[scorer], stops, threshold=0.5)
            assert row["text"] == CAPTIONS[row["id"]]
            assert [(w["word"], w["start"], w["end"]) for w in row["words"]] == [
                (w.text, w.start, w.end) for w in one.words
            ]
            assert [w["score"] for w in row["words"]] == pytest.approx(
                one.scores[scorer].tolist(), abs=2e-5
            )
            assert [w["norm"] for w in row["words"]] == pytest.approx(norms.tolist(), abs=1e-4)
            assert [w["selected"] for w in row["words"]] == selected.tolist()
            assert [w["xy"] for w in row["words"]] == one.xy.tolist()
    out, err = capsys.readouterr()
    assert "4 captions, 16 words" in out and "3 skipped" in out and "skipped.jsonl" in err


def test_what_was_skipped_and_what_made_it(arguments, tmp_path):
    script.main([*arguments, "--scorer", "pixel"])
    (skipped,), (meta,) = (
        list((tmp_path / "out").glob(f"*.{end}")) for end in ("skipped.jsonl", "meta.json")
    )
    rows = [json.loads(line) for line in skipped.read_text(encoding="utf-8").splitlines()]
    assert [(row["index"], row["id"]) for row in rows] == [(3, "d"), (4, "e"), (6, "g")]
    assert (
        "no words" in rows[0]["reason"]
        and "truncated" in rows[1]["reason"].lower()
        and "empty" in rows[2]["reason"]
    )
    meta = json.loads(meta.read_text(encoding="utf-8"))
    assert meta["finished"] and meta["counts"]["skipped"] == 3 and meta["counts"]["captions"] == 4
    assert meta["protocol"]["threshold"] is None and meta["protocol"]["image_size"] == 32
    assert (
        len(meta["model"]["checksum"]) == 32
        and meta["versions"]["torch"] == torch.__version__.split("+")[0]
    )


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--hflip", "--fixed", "--stopwords"], "_32_[1.0]@pixel"),
        (["--scales", "1", "0.5", "--image", "24"], "_24_[1.0, 0.5]@pixel"),
        (
            [
                "--fixed",
                "--threshold",
                "0.4",
                "--normalize",
                "none",
                "--limit",
                "2",
                "--head",
                "naclip",
            ],
            "_32_[1.0]@pixel@head=naclip@normalize=none@threshold=0.4@limit=2",
        ),
    ],
)
def test_names(arguments, tmp_path, options, name):
    script.main([*arguments, "--scorer", "pixel", *options])
    (path,) = (tmp_path / "out").glob("*@pixel*.meta.json")
    assert path.name.endswith(f"{name}.meta.json") and path.name.startswith("local-dir__")


def test_complete_results_need_no_model(arguments, tmp_path, capsys, monkeypatch):
    script.main(arguments)
    before = files(tmp_path / "out")
    monkeypatch.setattr(script, "load_model", lambda args: pytest.fail("the model was loaded"))
    assert script.main(arguments) == 0 and "complete already" in capsys.readouterr().out
    assert script.main([*arguments, "--scorer", "image"]) == 0
    assert files(tmp_path / "out") == before


def test_a_deleted_result_is_made_again(arguments, tmp_path):
    script.main(arguments)
    before = files(tmp_path / "out")
    (gone,) = (tmp_path / "out").glob("*@text.jsonl")
    gone.unlink()
    (tmp_path / "out" / "x.meta.json").write_text("[]")
    script.main(arguments)
    (tmp_path / "out" / "x.meta.json").unlink()
    assert files(tmp_path / "out") == before


def test_one_scorer_then_all_is_all_at_once(arguments, tmp_path):
    script.main([*arguments, "--scorer", "image"])
    script.main(arguments)
    script.main([*arguments, "--out", str(tmp_path / "other")])
    assert files(tmp_path / "out") == files(tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--hflip"], "hflip"),
        (["--batch", "3"], "batch"),
        (["--fixed"], "threshold"),
        (["--stopwords"], "stopwords"),
    ],
)
def test_results_of_other_settings_are_refused(arguments, tmp_path, options, named):
    script.main([*arguments, "--scorer", "pixel"])
    before = files(tmp_path / "out")
    with pytest.raises(TTDError, match=rf"\({named}: .*--overwrite"):
        script.main([*arguments, "--scorer", "pixel", *options])
    assert files(tmp_path / "out") == before
    assert script.main([*arguments, "--scorer", "pixel", *options, "--overwrite"]) == 0


def test_the_set_is_known_by_its_place(arguments, world, tmp_path, capsys, monkeypatch):
    """The same folder under another name is the same set; another folder of that name is not."""
    import shutil

    line = [
        "--scorer",
        "pixel",
        *arguments[arguments.index("--root") + 2 :],
        *arguments[: arguments.index("--root")],
    ]
    root = Path(arguments[arguments.index("--root") + 1])
    shutil.copytree(root, tmp_path / "elsewhere" / root.name)
    assert script.main(["--root", str(root), *line]) == 0
    monkeypatch.chdir(root.parent)
    assert (
        script.main(["--root", f"{root.name}/", *line]) == 0
        and "complete already" in capsys.readouterr().out
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(TTDError, match=r"\(root: "):
        script.main(["--root", root.name, *line])


def test_other_weights_of_the_same_name_are_refused(arguments, tmp_path, small_clip):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    folder.mkdir()
    for path in small_clip.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    arguments = [*arguments, "--arch", f"local-dir:{folder}", "--scorer", "text"]
    script.main(arguments)
    os.utime(folder / "open_clip_model.safetensors")  # touched, not changed
    assert script.main(arguments) == 0
    weights = load_file(folder / "open_clip_model.safetensors")
    weights["text_projection"] = weights["text_projection"] + 1
    save_file(weights, folder / "open_clip_model.safetensors")
    with pytest.raises(TTDError, match="checksum"):
        script.main(arguments)


def test_jsonl_and_folders_and_limit(arguments, world, tmp_path):
    lines = [
        {"image": str(world / "image/a.jpg"), "captions": ["a dog", "the cat"]},
        {"image": str(world / "image/b.jpg"), "text": "two"},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    script.main(
        [*arguments, "--root", str(tmp_path / "list.jsonl"), "--limit", "2", "--scorer", "pixel"]
    )
    ((rows),) = results(tmp_path / "out").values()
    assert [row["id"] for row in rows] == ["a#0", "a#1"]


@pytest.mark.slow
def test_killed_again_and_again_it_ends_byte_identical(arguments, world, tmp_path, small_clip):
    big = tmp_path / "big"  # enough batches to be killed in the middle of
    (big / "image").mkdir(parents=True)
    (big / "json").mkdir()
    for k in range(120):
        name = sorted(CAPTIONS)[k % 7]
        (big / f"image/{k:03d}.jpg").write_bytes((world / f"image/{name}.jpg").read_bytes())
        (big / f"json/{k:03d}.json").write_bytes((world / f"json_refined/{name}.json").read_bytes())
    arguments = [*arguments, "--root", str(big), "--scales", "1.0", "0.5", "3.0", "--hflip"]
    script.main(arguments)
    killed = tmp_path / "killed"
    command = [
        sys.executable,
        str(ROOT / "produce_tags_from_text.py"),
        *arguments,
        "--out",
        str(killed),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    for wanted in (1, 30):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait_for_lines(killed, wanted, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    script.main([*arguments, "--out", str(killed)])
    assert files(killed) == files(tmp_path / "out")


def _wait_for_lines(folder, wanted, process, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if any(path.read_bytes().count(b"\n") >= wanted for path in folder.glob("*@text.jsonl")):
            return
        time.sleep(0.002)


def test_the_published_command_is_understood():
    published = (
        "--root ../cc3m_for_evaluation/ --arch TCL --lora ./weights/TCL+TTD.pt "
        "--scales 1.0 --hflip --fixed --stopwords"
    )
    args = script.get_args_parser().parse_args(published.split())
    assert args.stopwords == "shipped" and args.fixed and args.scorer == ["pixel", "image", "text"]
    assert script.threshold(args) == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "0.3"], "--fixed"),
        (["--root", "/no/such/set"], "no such"),
        (["--stopwords", "nltk"], "NLTK"),
    ],
)
def test_bad_input_is_one_line(arguments, options, message, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(TTDError, match=message) as error:
        script.main([*arguments, *options])
    assert "\n" not in str(error.value)


def test_help_is_quick():
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "try:\n import produce_tags_from_text as p; p.main()\n"
        "except SystemExit: pass\nprint({'torch', 'open_clip', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.rstrip().endswith("set()")


def test_nothing_usable_is_exit_2_each_time(small_clip, tmp_path):
    (tmp_path / "image").mkdir()
    (tmp_path / "json").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "image" / "a.jpg")
    (tmp_path / "json" / "a.json").write_text('{"text": "!!!"}', encoding="utf-8")
    options = ["--arch", f"local-dir:{small_clip}", "--device", "cpu", "--scorer", "pixel"]
    command = [*options, "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert script.main(command) == 2
    assert script.main(command) == 2  # still of no use
