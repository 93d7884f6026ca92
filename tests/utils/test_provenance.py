"""Stamps of weights: when two runs may take their models for the same without reading them."""

from core.utils.provenance import weight_stamps

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_stamps_of_files(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"abc")
    first = weight_stamps("tiny", None, str(path))
    assert first[str(path)][0] == 3 and first == weight_stamps("tiny", None, str(path))
    path.write_bytes(b"abcd")
    assert first != weight_stamps("tiny", None, str(path))


def test_what_a_name_on_the_hub_is_may_change_but_a_commit_may_not():
    for args in (("TCL", "hf-hub:me/x"), ("TCL", None, "hf-hub:me/x@main"), ("hf-hub:me/x",)):
        assert weight_stamps(*args) != weight_stamps(*args)
    pinned = ("TCL", f"hf-hub:me/x@{COMMIT}")
    assert weight_stamps(*pinned) == weight_stamps(*pinned)
    assert weight_stamps(*pinned) != weight_stamps("TCL")
