"""The scripts that make masks: names, files, right labels, resuming after a kill, shards."""

import json
import signal
import subprocess
import time

import numpy as np
import pytest
from mask_scripts import ENVIRONMENT, PICTURES, call, command, masks, run_here
from PIL import Image


@pytest.fixture(scope="module")
def whole(mask_place, tmp_path_factory):
    """Label maps of all images by one uninterrupted run: the folder."""
    out = tmp_path_factory.mktemp("whole")
    result = call(mask_place, out, "--pamr", "--hflip", "--save-scores", "--rle")
    assert result.returncode == 0, result.stderr
    return out


def test_label_maps_names_and_protocol(place, whole):
    (folder,) = whole.iterdir()
    arch = str(place / "model").replace("/", "_")
    assert folder.name == f"local-dir_{arch}@pets@OpenAI@[1.0]@64@s=2@hflip@pamr@bg=0.40"
    assert sorted(path.name for path in folder.glob("*.png")) == [
        f"p{i}.png" for i in range(PICTURES)
    ]
    seen = set()
    for i in range(PICTURES):
        image = Image.open(folder / f"p{i}.png")
        assert image.mode == "P" and image.size == (40 + i, 33)
        seen |= set(np.unique(np.asarray(image)).tolist())
    assert seen <= {0, 1, 2, 3, 4} and len(seen) > 2
    stored = json.loads((folder / "protocol.json").read_text())
    assert (
        stored["identity"]["bg"] == 0.4
        and stored["identity"]["hflip"] is True
        and stored["identity"]["image"] == 64
    )
    assert (
        stored["model"]["checksum"]
        and stored["versions"]["torch"]
        and "--pamr" in stored["command"]
    )
    entries = json.loads((folder / "rle.json").read_text())
    pixels = sum(sum(e["segmentation"]["counts"][1::2]) for e in entries)
    assert pixels == sum(
        int((np.asarray(Image.open(path)) > 0).sum()) for path in folder.glob("*.png")
    )


def test_labels_follow_from_the_saved_scores(whole):
    """Arg-max of the stored maps with the background at 0.40 in front is the stored label map."""
    (folder,) = whole.iterdir()
    for i in range(PICTURES):
        with np.load(folder / "scores" / f"p{i}.npz") as stored:
            maps, classes = stored["maps"].astype(np.float32), stored["classes"]
        labels = np.concatenate([[0], classes + 1])
        stack = np.concatenate([np.full_like(maps[:1], 0.4), maps])
        clear = np.diff(np.sort(stack, 0)[-2:], axis=0)[0] > 2e-3  # float16 may decide elsewhere
        want = labels[stack.argmax(0)]
        assert (np.asarray(Image.open(folder / f"p{i}.png")) == want)[
            clear
        ].all() and clear.mean() > 0.5


def test_masks_equal_the_library_called_directly(place, whole):
    """Backbone.masks, mirrored and not, window by window, without this project's inference code."""
    import torch

    from core.backbones import load_backbone
    from core.data.images import read_image
    from core.maps.resize import resized_tensor
    from core.refine.pamr import PAMR
    from core.text.prompts import embed_classes

    torch.set_num_threads(1)
    backbone = load_backbone(f"local-dir:{place / 'model'}")
    text = embed_classes(backbone, ["dog", "cat|kitten", "boat", "tree"])
    pixels = read_image(
        place / "set" / "images" / "p3.png"
    )  # 43 x 33 -> 83 x 64: windows 0..64, 19..83
    image = backbone.normalize(resized_tensor(pixels, 64)[None])
    assert image.shape[-2:] == (64, 83)
    summed, count = torch.zeros(1, 4, 64, 83), torch.zeros(83)
    for left in (0, 19):
        crop = image[..., left : left + 64]
        both = (backbone.masks(crop, text) + backbone.masks(crop.flip(-1), text).flip(-1)) / 2
        summed[..., left : left + 64] += both
        count[left : left + 64] += 1
    soft = torch.nn.functional.interpolate(summed / count, size=(33, 43), mode="bilinear")
    soft = PAMR()(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, soft)[0]
    stack = torch.cat([torch.full_like(soft[:1], 0.4), soft])
    clear = stack.topk(2, 0).values.diff(dim=0).abs()[0] > 1e-5
    (folder,) = whole.iterdir()
    labels = torch.from_numpy(np.array(Image.open(folder / "p3.png"))).long()
    assert (labels == stack.argmax(0))[clear].all() and clear.float().mean() > 0.99


@pytest.mark.slow
def test_shards_and_torchrun_ranks_make_the_same_files(place, whole, tmp_path):
    result = call(place, tmp_path / "two", "--pamr", "--hflip", "--workers", 2)
    assert result.returncode == 0, result.stderr
    assert masks(tmp_path / "two") == masks(whole)
    ranks = {"WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "r"}
    first = subprocess.Popen(
        command(place, tmp_path / "ranks", "--pamr", "--hflip"),
        stderr=subprocess.PIPE,
        env=ENVIRONMENT | ranks | {"RANK": "0", "TTD_CACHE": str(place / "cache")},
    )
    second = call(place, tmp_path / "ranks", "--pamr", "--hflip", env=ranks | {"RANK": "1"})
    assert second.returncode == 0, second.stderr
    assert first.wait() == 0, first.stderr.read()
    assert masks(tmp_path / "ranks") == masks(whole)


def test_words_below_a_score_make_no_mask(place, tmp_path, capsys):
    """--min-score 1 keeps no word and -1 all that are kept without it; it needs --tags selected."""
    options = ("--tags", "selected", "--limit", 3)
    assert run_here(capsys, place, tmp_path / "a", *options, script="text")[0] == 0
    low, high = (tmp_path / "b", "--min-score=-1"), (tmp_path / "c", "--min-score=1")
    for out, cut in (low, high):
        assert run_here(capsys, place, out, *options, cut, script="text")[0] == 0
    assert masks(tmp_path / "a") == masks(tmp_path / "b")
    (folder,) = (tmp_path / "c").iterdir()
    assert "@min_score=1.0@" in folder.name and len(list(folder.glob("*.png"))) == 3
    assert not any(np.asarray(Image.open(path)).any() for path in folder.glob("*.png"))
    code, _, said = run_here(capsys, place, tmp_path / "d", "--min-score=1", script="text")
    assert code == 2 and "use --tags selected" in said


def exported(out):
    """The bytes of every exported file of the one result of `out`."""
    (folder,) = out.iterdir()
    files = [path for path in (folder / "export").rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_exports_are_those_of_the_whole_result(place, tmp_path, capsys):
    """The same bytes from one run and from one that is resumed; --overwrite leaves none behind."""
    forms = ("--export", "coco", "label-studio", "voc", "supervision")
    assert run_here(capsys, place, tmp_path / "a", *forms)[0] == 0
    assert run_here(capsys, place, tmp_path / "b")[0] == 0
    (folder,) = (tmp_path / "b").iterdir()
    for number in (0, 3):
        (folder / f"p{number}.png").unlink()
    code, said, _ = run_here(capsys, place, tmp_path / "b", *forms)
    assert code == 0 and "coco: 7 images" in said
    first = exported(tmp_path / "a")
    assert first == exported(tmp_path / "b") and len(first) > 4 * PICTURES
    content = json.loads(first["export/coco/annotations/instances_default.json"])
    assert [one["file_name"] for one in content["images"]] == [f"p{i}.png" for i in range(PICTURES)]
    assert {one["name"] for one in content["categories"]} == {"dog", "cat", "boat", "tree"}
    # `--overwrite` replaces the masks, and so what was made of the old ones
    stored = json.loads((folder / "protocol.json").read_text())
    stored["identity"]["bg"] = 0.1
    (folder / "protocol.json").write_text(json.dumps(stored))
    assert run_here(capsys, place, tmp_path / "b", "--overwrite")[0] == 0
    assert not exported(tmp_path / "b")


def test_captions_are_exported_too(place, tmp_path, capsys):
    options = ("--export", "coco", "--limit", 2)
    assert run_here(capsys, place, tmp_path, *options, script="text")[0] == 0
    content = json.loads(exported(tmp_path)["export/coco/annotations/instances_default.json"])
    assert [one["file_name"] for one in content["images"]] == ["images/p0.png", "images/p1.png"]
    assert {one["caption"] for one in content["annotations"]} <= {
        "a dog, a red cat and 0 boats", "a dog, a red cat and 1 boats",
    }  # fmt: skip


@pytest.mark.slow
def test_several_processes_export_the_same(place, tmp_path):
    for count in (1, 2):
        out = tmp_path / str(count)
        done = call(place, out, "--export", "coco", "voc", "--workers", count)
        assert done.returncode == 0, done.stderr
    assert exported(tmp_path / "1") == exported(tmp_path / "2")


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again(place, whole, tmp_path):
    """kill -9 while masks are made; the same command then gives the uninterrupted run's files."""
    options = ("--pamr", "--hflip", "--save-scores", "--rle")
    environment = ENVIRONMENT | {"TTD_CACHE": str(place / "cache")}
    for count in (0, 1, 4):  # masks there when it is killed
        out = tmp_path / str(count)
        process = subprocess.Popen(
            command(place, out, *options), env=environment, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and len(list(out.glob("*/*.png"))) < count:
            time.sleep(0.002)
        if count == 0:
            time.sleep(1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in out.glob("*/[!.]*.png"):  # whatever is there is whole
            Image.open(path).load()
        result = call(place, out, *options)
        assert result.returncode == 0, result.stderr
        assert masks(out) == masks(whole)
        (folder,) = out.iterdir()
        assert not list(folder.rglob("*.part"))
        assert (folder / "rle.json").read_bytes() == (
            next(whole.iterdir()) / "rle.json"
        ).read_bytes()


@pytest.mark.slow
def test_workers_end_with_their_parent(place, tmp_path):
    """After a kill -9 of the parent its workers end, and the folder is free for the next run."""
    environment = ENVIRONMENT | {"TTD_CACHE": str(place / "cache")}
    process = subprocess.Popen(
        command(place, tmp_path, "--workers", 2, "--scales", 3),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(tmp_path.glob("*/*.png")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while (
        result := call(place, tmp_path, "--scales", 3)
    ).returncode and time.monotonic() < deadline:
        assert "another run is writing" in result.stderr
    assert result.returncode == 0, result.stderr


def test_what_is_there_is_kept(capsys, place, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.png")}
    code, out, _ = run_here(capsys, place, whole, "--pamr", "--hflip", "--save-scores")
    assert code == 0 and "0 masks in" in out and f"{PICTURES} were there already" in out
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.png")} == before


def test_a_broken_mask_is_made_again(capsys, place, whole):
    (folder,) = whole.iterdir()
    data = (folder / "p2.png").read_bytes()
    (folder / "p2.png").write_bytes(data[:-5])
    code, out, _ = run_here(capsys, place, whole, "--pamr", "--hflip", "--save-scores")
    assert code == 0 and "1 masks in" in out and (folder / "p2.png").read_bytes() == data


def test_a_locked_folder_is_refused_in_one_line(capsys, place, whole):
    from core.masks.results import META, MaskFolder

    (folder,) = whole.iterdir()
    held = MaskFolder(folder, json.loads((folder / META).read_text()), "somebody else")
    code, _, said = run_here(capsys, place, whole, "--pamr", "--hflip")
    held.close()
    assert code == 2 and "another run is writing this result" in said and "\n" not in said.strip()
