"""evaluate_classification.py from its command line, against numbers counted by hand."""

import json

import pytest
from PIL import Image

import evaluate_classification as script
from core.errors import TTDError
from core.evaluation.tags import nltk_nouns

SET = {"a": ("A red dog", ["dog", "red"]), "b": ("the dog and the DOG", ["Dog"]), "c": ("🙂", [])}
KEPT = {
    "a": {"red": 0.9, "dog": 0.4, "A": 0.0},
    "b": {"the": 0.6, "dog": 1.0, "and": 0.1, "DOG": 0.7},
}


@pytest.fixture
def world(tmp_path):
    root = tmp_path / "set"
    for folder in ("image", "json_refined"):
        (root / folder).mkdir(parents=True)
    for name, (text, tags) in SET.items():
        (root / f"image/{name}.jpg").touch()
        (root / f"json_refined/{name}.json").write_text(json.dumps({"text": text, "tags": tags}))
    return root


def write(folder, name, rows=SET, stopwords=None):
    """A result whose words are those of KEPT, selected at 0.5."""
    folder.mkdir(exist_ok=True)
    lines = []
    for key in rows:
        if key in KEPT or key not in SET:
            norms = KEPT.get(key, {"dog": 1.0})
            text = SET[key][0] if key in SET else "dog"
            words = [
                {"word": w, "norm": norms[w], "selected": norms[w] >= 0.5} for w in text.split()
            ]
            lines.append(json.dumps({"id": key, "text": text, "words": words}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.meta.json").write_text(json.dumps({"protocol": {"stopwords": stopwords}}))


@pytest.fixture
def arguments(world, tmp_path):
    write(tmp_path / "out", "M_1_[1.0]@pixel+TTD")
    return ["--root", str(world), "--out", str(tmp_path / "out"), "--arch", "M_1_[1.0]@pixel+TTD"]


def test_the_published_line_and_the_table(arguments, tmp_path, capsys):
    assert (
        script.main(
            [*arguments, "--json", str(tmp_path / "x.json"), "--plot", str(tmp_path / "x.png")]
        )
        == 0
    )
    out = capsys.readouterr().out.splitlines()
    # Of 8 words 4 are true (dog, red; dog, DOG); kept: red; the, dog, the, DOG: 3 of 5.
    assert out[0] == "[M_1_[1.0]@pixel+TTD] Precision: 60.0, Recall: 75.0, F1: 66.7, Acc: 62.5"
    rows = {row["name"]: row for row in json.loads((tmp_path / "x.json").read_text())["rows"]}
    best = rows["best threshold there is"]  # at 0.7: red, dog, DOG
    assert (best["threshold"], best["precision"], best["recall"]) == (0.7, 1, 0.75)
    # Ranked 1 T, .9 T, .7 T, .6 F F, .4 T, .1 F, 0 F: precision 1, 1, 1 and 4/6 where recall rises
    # by a quarter.
    assert rows["M_1_[1.0]@pixel+TTD"]["average_precision"] == pytest.approx(
        (1 + 1 + 1 + 4 / 6) / 4
    )
    assert rows["all words"]["precision"] == 0.5 and rows["all words"]["recall"] == 1
    assert rows["all content words"]["f1"] == 1
    assert "mAP" in "".join(out) and Image.open(tmp_path / "x.png").width > 400


def test_names_may_be_paths_with_or_without_ending(arguments, tmp_path, capsys):
    for name in ("M_1_[1.0]@pixel+TTD.jsonl", str(tmp_path / "out" / "M_1_[1.0]@pixel+TTD")):
        script.main([*arguments[:-1], name])
        assert capsys.readouterr().out.startswith("[M_1_[1.0]@pixel+TTD] Precision: 60.0")


def test_the_best_threshold_respects_stop_words(arguments, tmp_path):
    write(tmp_path / "out", "S", stopwords="shipped")
    script.main([*arguments, "S", "--json", str(tmp_path / "x.json")])
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert rows[1]["f1"] < 1 and (rows[3]["f1"], rows[3]["threshold"]) == (1, 0.4)


@pytest.mark.parametrize(
    ("rows", "text", "message"),
    [
        (["a"], None, "1 missing: b"),
        (["a", "b", "z"], None, "1 not in the set: z"),
        (["a", "b"], "A blue dog", "1 with another caption: a"),
    ],
)
def test_what_does_not_match_is_named(arguments, world, tmp_path, capsys, rows, text, message):
    write(tmp_path / "out", "M_1_[1.0]@pixel+TTD", rows)
    if text:
        (world / "json_refined/a.json").write_text(json.dumps({"text": text, "tags": ["dog"]}))
    with pytest.raises(TTDError, match=message):
        script.main(arguments)
    assert script.main([*arguments, "--allow-missing"]) == 0
    out, err = capsys.readouterr()
    assert message in err and out.startswith("[M_1")


def test_results_of_another_set_are_refused(arguments, tmp_path):
    write(tmp_path / "out", "M_1_[1.0]@pixel+TTD", ["z"])
    with pytest.raises(TTDError, match="none of its captions"):
        script.main([*arguments, "--allow-missing"])


def test_unknown_names_list_what_is_there(arguments):
    with pytest.raises(TTDError, match=r"no result nothing\.jsonl.*M_1_\[1.0\]@pixel\+TTD"):
        script.main([*arguments[:-1], "nothing"])


def test_captions_without_tags_are_no_truth(arguments, world, capsys):
    (world / "json_refined/a.json").write_text('{"text": "A red dog"}')
    with pytest.raises(TTDError, match=r"1 of 2 captions without true tags \(a\)"):
        script.main(arguments)
    assert script.main([*arguments, "--allow-missing"]) == 0
    assert "1 not in the set: a" in capsys.readouterr().err
    for name in SET:
        (world / f"json_refined/{name}.json").write_text('{"text": "A red dog"}')
    with pytest.raises(TTDError, match="without true tags"):
        script.main([*arguments, "--allow-missing"])


def test_two_captions_of_one_id_are_not_mixed_up(arguments, world, tmp_path):
    lines = [
        {"image": f"{world}/image/a.jpg", "text": text, "tags": ["dog"]}
        for text in ("A red dog", "A dog")
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(TTDError, match="1 missing: a#1"):
        script.main(["--root", str(tmp_path / "list.jsonl"), *arguments[2:]])
    path = tmp_path / "out" / "M_1_[1.0]@pixel+TTD.jsonl"
    path.write_text(2 * path.read_text())
    with pytest.raises(TTDError, match="jsonl: several captions with the id"):
        script.main(arguments)


def test_nouns_where_nltk_has_no_tagger(arguments, capsys, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(nltk, "pos_tag", _raise)
    assert script.main(arguments) == 0
    out, err = capsys.readouterr()
    assert "nltk.downloader" in err and "NLTK" not in out


def _raise(words):
    raise LookupError("not found")


def test_nouns_are_what_the_tagger_calls_nouns(monkeypatch):
    import nltk

    kinds = {"the": "DT", "dog": "NN", "dogs": "NNS", "runs": "VBZ", "Rex": "NNP"}
    monkeypatch.setattr(nltk, "pos_tag", lambda words: [(word, kinds[word]) for word in words])
    assert nltk_nouns(["the", "dog", "runs", "dogs", "Rex"]) == [False, True, False, True, True]
