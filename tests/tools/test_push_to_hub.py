"""tools/push_to_hub.py, and hf-hub: names: there and back through a stand-in of the Hub."""

import json

import push_to_hub
import pytest
from hub_server import Hub
from huggingface_hub import HfApi, constants
from paths import ROOT
from push_to_hub import main

from core.backbones import load_backbone
from core.backbones.hub_files import HubName, hub_file, hub_name
from core.backbones.lora.files import read_adapter
from core.errors import TTDError

ADAPTER = ROOT / "weights" / "tiny+TTD.safetensors"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_good")
        yield server


def push(hub, *words):
    return main([str(word) for word in words], HfApi(hub.url, token="hf_good"))


def test_an_adapter_there_and_back(hub, capsys):
    assert push(hub, ADAPTER, "--to", "me/tiny-ttd", "--licence", "mit") == 0
    name = capsys.readouterr().out.strip()
    assert name == f"hf-hub:me/tiny-ttd@{hub.commit_of('me/tiny-ttd', 'main')}"
    files = hub.repos["me/tiny-ttd"]["main"]
    assert sorted(files) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    ours, info = read_adapter(ADAPTER)
    for source in (name, "hf-hub:me/tiny-ttd"):
        theirs, said = read_adapter(source)
        assert (said.alpha, said.rank, said.base_checksum) == (
            info.alpha, info.rank, info.base_checksum)  # fmt: skip
        assert all(theirs[key].equal(value) for key, value in ours.items())
    card = files["README.md"].decode()
    assert card.startswith("---\nlicense: mit\nlibrary_name: ttd\n")
    assert "No measured numbers were given with this model." in card
    assert "--lora hf-hub:me/tiny-ttd" in card and info.base_checksum in card


def test_a_commit_stays_what_it_was_and_works_offline(hub, monkeypatch, tmp_path):
    push(hub, ADAPTER, "--to", "me/x")
    first = hub.commit_of("me/x", "main")
    push(hub, ADAPTER, "--to", "me/x", "--licence", "apache-2.0")
    assert hub.commit_of("me/x", "main") != first
    pinned = hub_file(f"hf-hub:me/x@{first}", "README.md", "card")
    assert "license" not in pinned.read_text().split("---")[1]
    assert "license" in hub_file("hf-hub:me/x", "README.md", "card").read_text().split("---")[1]
    asked = len(hub.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub_file(f"hf-hub:me/x@{first}", "README.md", "card") == pinned
    assert len(hub.asked) == asked
    with pytest.raises(TTDError, match="hf-hub:me/y could not be fetched"):
        hub_file("hf-hub:me/y", "README.md", "card")


def test_a_branch(hub):
    push(hub, ADAPTER, "--to", "me/x", "--revision", "trial")
    assert hub.repos["me/x"]["main"] == {}
    assert read_adapter("hf-hub:me/x@trial")[1].rank
    with pytest.raises(TTDError, match="no adapter_config.json or|could not be fetched"):
        read_adapter("hf-hub:me/x")


def test_a_tcl_there_and_back(hub, small_tcl):
    push(hub, small_tcl, "--to", "me/tcl")
    assert sorted(hub.repos["me/tcl"]["main"]) == ["README.md", "tcl.safetensors"]
    before = load_backbone("TCL", weights=small_tcl, device="cpu")
    after = load_backbone("TCL", weights="hf-hub:me/tcl", device="cpu")
    assert after.checksum == before.checksum


@pytest.mark.slow
def test_a_tcl_on_another_clip_keeps_its_vocabulary(tmp_path):
    source = ROOT / "weights" / "tiny-TCL.pth"
    push_to_hub.make(str(source), tmp_path / "a", "me/x", None, {})
    before = load_backbone("TCL", weights=source, device="cpu")
    after = load_backbone("TCL", weights=tmp_path / "a" / "tcl.safetensors", device="cpu")
    assert before.facts is not None and after.facts == before.facts
    texts = ["a red house"]
    assert after.encode_text(texts).equal(before.encode_text(texts))


def test_a_grounder_there_and_back(hub, tmp_path):
    from small_grounding import saved_grounder

    from core.grounding.predict import load_grounder

    path = saved_grounder(tmp_path)
    push(hub, path, "--to", "me/g")
    files = hub.repos["me/g"]["main"]
    assert sorted(files) == ["README.md", "grounder.safetensors"]
    assert files["grounder.safetensors"] == path.read_bytes()
    ours, theirs = load_grounder(path), load_grounder("hf-hub:me/g")
    assert theirs.prompt == ours.prompt
    for key, value in ours.model.own_state().items():
        assert theirs.model.own_state()[key].equal(value)


SCORES = {
    "tag": "tiny+TTD", "data": "World", "iou": 0.0974, "fpr": 0.38, "fnr": 0.52, "scored": 100,
    "baselines": {"all background": {"iou": 0.028, "fpr": 0.009, "fnr": 0.963}},
    "protocol": {
        "identity": {"name": "ttd"}, "arguments": {"arch": "tiny", "lora": str(ADAPTER)},
        "versions": {"torch": "2.6"}},
}  # fmt: skip


def card_with(tmp_path, *scores):
    paths = []
    for number, content in enumerate(scores):
        paths.append(tmp_path / f"s{number}.json")
        paths[-1].write_text(json.dumps(content))
    line = [str(ADAPTER), "--to", "me/x", "--dry-run", str(tmp_path / "out")]
    main([*line, "--scores", *map(str, paths)])
    return (tmp_path / "out" / "README.md").read_text()


def test_the_card_holds_what_was_measured_and_how(tmp_path):
    grounding = {"scores": {"val": {"acc@0.5": 0.194, "miou": 0.2, "groups": {}}}, "others": {}}
    tags = {"rows": [{"name": "tiny@pixel", "precision": 0.9, "recall": 0.8, "f1": 0.85,
                      "accuracy": 0.7, "average_precision": None}]}  # fmt: skip
    tcl = [{"data": "VOC20", "pamr": True, "miou": 0.8, "images": 9, "baselines": {}}]
    heldout = {"arch": "tiny", "sets": [
        {"name": "all", "pictures": 5, "fixed": {"after": {"pixel_f1": 0.89, "pictures": 5,
         "cuts": {"tag": None}}}}]}  # fmt: skip
    text = card_with(tmp_path, SCORES, grounding, tags, tcl, heldout)
    assert "| tiny+TTD on World | mean IoU % | 9.7 | 100 |" in text
    assert "| all background (no model) | mean IoU % | 2.8 | 100 |" in text
    assert "How: protocol ttd; arch tiny; lora tiny+TTD.safetensors; " in text
    assert "torch 2.6." in text and str(ADAPTER.parent) not in text  # not where it lay
    assert "| val | acc@0.5 % | 19.4 |  |" in text
    assert "| tiny@pixel | f1 % | 85.0 |  |" in text and "average_precision" not in text
    assert "| VOC20, PAMR | mIoU % | 80.0 | 9 images |" in text
    assert "| after, all, fixed thresholds | pixel_f1 % | 89.0 | 5 |" in text
    assert "No measured numbers" not in text


def test_the_card_holds_several_grounders_and_classes_of_images(tmp_path):
    """Of several models every list is a row; they were a table without rows."""
    boxes = {"scores": {"a": {"val": {"acc@0.5": 0.5, "miou": 0.25}}, "b": {"val": {"miou": 0.75}}}}
    found = {"meaning": "m", "images": 9, "results": {"pixel": {"map": 0.5, "precisions": []}}}
    classes = {"set": "VOC 2007", "classes": ["a"], "labels": {"all": found}, "published": []}
    text = card_with(tmp_path, boxes, classes)
    assert "| a, val | acc@0.5 % | 50.0 |  |" in text and "| b, val | miou % | 75.0 |  |" in text
    assert "| pixel on VOC 2007, all | mAP % | 50.0 | 9 images |" in text


def test_nothing_in_scores_acts_in_the_card(tmp_path):
    nasty = {**SCORES, "tag": "a|b\n# x <script> `c` \x1b[2J [l](http://x)", "iou": None}
    text = card_with(tmp_path, nasty)
    assert "\n# x" not in text and "<script>" not in text.replace("\\<", "") and "\x1b" not in text
    assert "not scored" in text and "a\\|b" in text and "\\[l\\]" in text


@pytest.mark.parametrize(
    ("content", "match"),
    [([], "^$"), ({}, "no evaluator"), (3, "no evaluator"), ({"rows": 3}, "no evaluator"),
     ({**SCORES, "iou": "many"}, "no evaluator"), ({"scores": [1]}, "no evaluator"),
     ({"sets": {}}, "^$"), ([{"data": 1}], "no evaluator"),
     ({**SCORES, "protocol": {"arguments": {"lora": None}}}, "made without --lora"),
     ({**SCORES, "protocol": {"arguments": {"lora": __file__}}}, "another file")],
)  # fmt: skip
def test_scores_that_are_none(tmp_path, content, match):
    if match == "^$":
        assert "## Measured" in card_with(tmp_path, content)
        return
    with pytest.raises(TTDError, match=match) as error:
        card_with(tmp_path, content)
    assert "\n" not in str(error.value) and not (tmp_path / "out" / "README.md").exists()


@pytest.mark.parametrize(
    "name", ["x", "a/b/c", "../b", "a/..", "a/b@", "a/b@../c", "a b/c", "/", ""]
)
def test_names_that_are_none(name):
    with pytest.raises(TTDError, match="write hf-hub:ORG/NAME|no branch"):
        hub_name(f"hf-hub:{name}")
    assert hub_name("hf-hub:a-1/b.c@v1") == HubName("a-1/b.c", "v1")


def test_without_a_token_nothing_is_made_or_sent(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(TTDError, match="no token of the Hugging Face Hub: `hf auth login`"):
        main([str(ADAPTER), "--to", "me/x"])
    assert hub.asked == [] and hub.repos == {}


def test_a_token_without_rights_is_one_line(hub):
    with pytest.raises(TTDError, match="me/x: could not be sent") as error:
        main([str(ADAPTER), "--to", "me/x"], HfApi(hub.url, token="hf_bad"))
    assert "\n" not in str(error.value) and hub.repos == {}


def test_what_is_not_published(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"no weights")
    model = ROOT / "weights/tiny/open_clip_model.safetensors"
    cases = {
        tmp_path / "x.pt": "is text, not weights",
        tmp_path / "none": "no weight file",
        model: "neither",
    }
    for file, match in cases.items():
        with pytest.raises(TTDError, match=match):
            main([str(file), "--to", "me/x", "--dry-run", str(tmp_path / "out")])
    with pytest.raises(TTDError, match="not a word of a model card"):
        main([str(ADAPTER), "--to", "me/x", "--licence", "mit\nx: y"])


def test_repositories_that_hold_something_else(hub):
    hub.repos["me/other"] = {"main": {"model.bin": b"x"}, "a" * 40: {"model.bin": b"x"}}
    with pytest.raises(TTDError, match="no tcl.safetensors in it, so it is no TCL"):
        load_backbone("TCL", weights="hf-hub:me/other")
    with pytest.raises(
        TTDError, match="no adapter_config.json or adapter_model.safetensors or .* no adapter"
    ):
        read_adapter("hf-hub:me/other")
    with pytest.raises(TTDError, match="could not be fetched"):
        read_adapter("hf-hub:me/other@v9")
    with pytest.raises(TTDError, match="could not be fetched.*token"):
        read_adapter("hf-hub:me/nobody")
