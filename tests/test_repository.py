"""What holds for the repository as a whole: links, names of places, checks, and a light `core`."""

import re
import subprocess
import sys
from collections import Counter

import pytest
import yaml
from paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# What lies beside this repository on somebody's machine; spelled apart, so as not to find itself.
ELSEWHERE = re.compile(r"\.\./sha" + r"red\b|(?<![\w.~-])/wo" + r"rk/|/ho" + r"me/\w|/ro" + r"ot/")


def tracked():
    """Text files of the repository, whether git is there or only its files are."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = [name for name in listed.stdout.split("\0") if name]
    paths = [ROOT / name for name in names] or [
        path for path in ROOT.rglob("*") if not re.search(r"/\.(git|venv)/", path.as_posix())
    ]
    kinds = (".py", ".md", ".yaml", ".toml", ".txt", ".sh", ".c", ".cff", "")
    return [path for path in paths if path.is_file() and path.suffix in kinds]


def test_no_file_names_a_place_outside_the_repository():
    assert ELSEWHERE.search("read /wo" + "rk/x") and ELSEWHERE.search("../sha" + "red/spec")
    paths = tracked()
    assert len(paths) > 100
    found = {}
    for path in paths:
        hit = ELSEWHERE.search(path.read_text(encoding="utf-8", errors="replace"))
        if hit:
            found[path.relative_to(ROOT).as_posix()] = hit.group()
    assert not found


def test_no_folder_of_core_holds_more_files_than_fit_on_a_screen():
    """At most 14, as CONTRIBUTING.md says: the next one makes a sub-package."""
    folders = Counter(path.parent for path in (ROOT / "core").rglob("*.py"))
    wide = {path.name for path, count in folders.items() if count > 14}
    assert len(folders) > 20 and not wide


def test_importing_core_loads_nothing_heavy():
    code = "import core, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"torch", "numpy", "PIL", "cv2", "open_clip", "yaml", "safetensors", "peft"}
    assert "core.errors" in done.stdout.split() and not heavy & set(done.stdout.split())


def test_core_exports_its_few_names():
    import core
    from core.backbones import load_backbone
    from core.errors import TTDError
    from core.predictor import Predictor

    assert core.load_backbone is load_backbone and core.Predictor is Predictor
    assert core.TTDError is TTDError and sorted(core.__all__) == [
        "Predictor",
        "TTDError",
        "demo_image",
        "load_backbone",
    ]
    assert core.demo_image().is_file()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = core.nothing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_of_the_documentation_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_the_documentation_names_exist(page):
    text = page.read_text(encoding="utf-8")
    folders = "core|tools|tests|benchmarks|configs|docs"
    named = set(re.findall(rf"`((?:{folders})/[\w./+-]+\.(?:py|md|yaml|txt|c|png))`", text))
    named |= set(re.findall(r"(?:python3?|torchrun[^\n]*?) ([\w/]+\.py)\b", text))
    real = [name for name in named if not re.search("NAME|ARCH", name)]  # no placeholders
    missing = [name for name in real if not (ROOT / name).exists()]
    assert sorted(missing) == []


def test_pre_commit_runs_the_checks_of_make_lint():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.split("\nlint:", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    checks = {re.sub(r"^\s*@\$\(PY\) (-m )?", "", line).removesuffix(" .") for line in recipe}
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (hooks,) = [repo["hooks"] for repo in config["repos"]]
    entries = {re.sub(r"^\S+python (-m )?", "", hook["entry"]) for hook in hooks}
    assert checks == entries and len(checks) == 4
    assert all(hook["language"] == "system" for hook in hooks)  # nothing is downloaded
