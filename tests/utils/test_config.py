"""Settings from nested mappings: types, unknown and missing keys, precedence."""

from dataclasses import dataclass, field

import pytest

from core.errors import TTDError
from core.utils.config import blamed, build, merge, nested, plain, read_recipe, read_yaml


@dataclass(frozen=True)
class Inner:
    rank: int = 8
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outer:
    lr: float
    arch: str = "tiny"
    limit: int | None = None
    fast: bool = False
    scales: tuple[float, ...] = (1.0,)
    inner: Inner = field(default_factory=Inner)


def test_values_are_taken_as_annotated_and_come_back_plain():
    values = {"lr": "1e-4", "scales": [1, 0.5], "inner": {"names": "q_proj"}, "limit": None}
    config = build(Outer, values, "here")
    assert config == Outer(1e-4, scales=(1.0, 0.5), inner=Inner(names=("q_proj",)))
    assert plain(config) == {
        "lr": 1e-4,
        "arch": "tiny",
        "limit": None,
        "fast": False,
        "scales": [1.0, 0.5],
        "inner": {"rank": 8, "names": ["q_proj"]},
    }
    assert build(Outer, plain(config), "again") == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 1, "speed": 2}, "here: unknown setting speed; there are lr, arch, limit"),
        ({"arch": "CLIP"}, "here: setting lr is missing"),
        ({"lr": "fast"}, "here: lr must be float, not 'fast'"),
        ({"lr": True}, "here: lr must be float, not True"),
        ({"lr": 1, "limit": 1.5}, "here: limit must be int, not 1.5"),
        ({"lr": 1, "fast": 1}, "here: fast must be bool, not 1"),
        ({"lr": 1, "arch": None}, "here: arch must be str, not None"),
        ({"lr": 1, "inner": 3}, "here: inner must be settings of its own, not 3"),
        ({"lr": 1, "inner": {"rnk": 3}}, "here: inner: unknown setting rnk; there are rank, names"),
        ({"lr": 1, "scales": ["a"]}, "here: scales must be float, not 'a'"),
    ],
)
def test_what_does_not_fit_is_one_line(values, message):
    with pytest.raises(TTDError) as caught:
        build(Outer, values, "here")
    assert str(caught.value).startswith(message)


def test_the_setting_that_was_meant_is_named():
    with pytest.raises(TTDError, match=r"did you mean scales\?"):
        build(Outer, {"lr": 1, "scale": [1.0]}, "here")
    with pytest.raises(TTDError) as caught:
        build(Outer, {"lr": 1, "zzz": 1}, "here")
    assert "mean" not in str(caught.value)


@pytest.mark.parametrize("word", ["none", "None", "NONE", None])
def test_none_is_no_value_where_there_may_be_none(word):
    config = build(Outer, {"lr": 1, "limit": word, "inner": {"names": word}}, "here")
    assert config.limit is None and config.inner.names is None
    assert build(Outer, {"lr": 1, "arch": "none"}, "here").arch == "none"


def test_later_levels_win_key_by_key():
    file = {"lr": 1, "inner": {"rank": 4, "names": ["a"]}}
    assert merge(file, {"inner.rank": 2}, {"lr": 3}) == {
        "lr": 3,
        "inner": {"rank": 2, "names": ["a"]},
    }
    assert nested({"a.b": 1, "a": {"b": 2, "c": 3}}) == {"a": {"b": 1, "c": 3}}


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "not YAML"), ("- 1", "settings must be lines of"), ("\xff", "not UTF-8")],
)
def test_files_that_are_no_settings(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TTDError, match=message):
        read_yaml(path)
    with pytest.raises(TTDError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")


def test_an_empty_file_has_no_settings(tmp_path):
    (tmp_path / "a.yaml").write_text("")
    assert read_yaml(tmp_path / "a.yaml") == {}


def recipe(folder, name, text):
    """A recipe file."""
    (folder / name).write_text(text)
    return folder / name


def test_a_recipe_changes_what_it_extends(tmp_path):
    recipe(tmp_path, "base.yaml", "steps: 5\nlora: {rank: 4, alpha: 2}\n")
    recipe(tmp_path, "middle.yaml", "extends: base.yaml\nbatch: 3\nlora: {rank: 8}\n")
    top = recipe(tmp_path, "top.yaml", "extends: middle.yaml\nsteps: 7\n")
    assert read_recipe(top) == {"steps": 7, "batch": 3, "lora": {"rank": 8, "alpha": 2}}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("extends: top.yaml\n", "top.yaml: extends itself, by way of top.yaml"),
        ("extends: [a, b]\n", "extends: wanted is the name of a YAML file"),
        ("extends: ''\n", "extends: wanted is the name of a YAML file"),
        ("extends: none.yaml\n", "none.yaml: cannot be read"),
    ],
)
def test_a_recipe_that_extends_nothing(tmp_path, text, why):
    with pytest.raises(TTDError, match=why):
        read_recipe(recipe(tmp_path, "top.yaml", text))


@dataclass(frozen=True)
class Lora:
    rank: int = 1


@dataclass(frozen=True)
class Small:
    steps: int = 1
    lora: Lora = Lora()


def why_not(path):
    """The error about the recipe at `path`."""
    try:
        build(Small, read_recipe(path), str(path))
    except TTDError as error:
        return str(blamed(error, path))
    raise AssertionError("no error")


@pytest.mark.parametrize(
    ("base", "middle", "top", "why"),
    [
        ("stps: 5", "", "steps: 7", "base.yaml: unknown setting stps; there are steps, lora; did"),
        ("lora: {rnk: 5}", "lora: {rank: 4}", "", "base.yaml: lora: unknown setting rnk; there"),
        ("lora.rnk: 5", "", "", "base.yaml: lora: unknown setting rnk; there"),
        ("stps: 5", "stps: 4", "", "middle.yaml: unknown setting stps;"),  # which wins
        ("a: 5", "b: 4", "c: 4", "top.yaml: unknown setting c;"),  # one file at a time
        ("rank: 5\nlora: {rnk: 5}", "", "", "base.yaml: unknown setting rank;"),
        ("lora: {rank: 5}", "rank: 5", "lora: {rnk: 5}", "middle.yaml: unknown setting rank;"),
        ("steps: many", "", "", "base.yaml: steps must be int, not 'many'"),
        ("lora: {rank: x}", "steps: 1", "", "base.yaml: lora: rank must be int, not 'x'"),
        ("lora: 3", "", "steps: 2", "base.yaml: lora must be settings of its own, not 3"),
        ("steps: 1", "", "steps: x", "top.yaml: steps must be int, not 'x'"),
        ("lora: {1: {2: 3}}", "", "", "base.yaml: lora: unknown setting 1; there"),
        ("lora: {yes: 1}", "", "steps: 2", "base.yaml: lora: unknown setting True; there"),
    ],
)
def test_an_error_names_the_recipe_that_holds_the_setting(tmp_path, base, middle, top, why):
    recipe(tmp_path, "base.yaml", base)
    recipe(tmp_path, "middle.yaml", f"extends: base.yaml\n{middle}\n")
    said = why_not(recipe(tmp_path, "top.yaml", f"extends: middle.yaml\n{top}\n"))
    assert said.startswith(f"{tmp_path}/{why}") and "\n" not in said
