"""`pip install .` gives `import ttd`: what is in the package, and README's lines on it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from paths import ROOT

SOURCES = ("core", "configs", "weights/tiny", "weights/tiny-cls")
FILES = ("pyproject.toml", "README.md", "LICENSE", "requirements.txt", "requirements-crf.txt")
DATA = ("stopwords.txt", "pamr.c", "vocabulary.yaml", "word_classes.yaml")


def settings():
    """The [tool.setuptools] table."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return content["tool"]["setuptools"]


def test_every_room_is_packaged():
    inits = (ROOT / "core").rglob("__init__.py")
    rooms = {".".join(["ttd", *path.relative_to(ROOT / "core").parts[:-1]]) for path in inits}
    assert sorted(rooms | {"ttd.configs", "ttd.weights"}) == settings()["packages"]


def test_every_file_beside_the_code_is_packaged():
    found = settings()
    beside = [path for path in (ROOT / "core").rglob("*.*") if path.suffix not in (".py", ".pyc")]
    packed = {}
    for package, names in found["package-data"].items():
        place = found["package-dir"].get(package, package.replace("ttd", "core").replace(".", "/"))
        packed[place] = {file for name in names for file in (ROOT / place).glob(name)}
        assert packed[place], package
    assert sorted(path.name for path in beside) == sorted(DATA)
    assert set(beside) <= set().union(*packed.values())
    assert set((ROOT / "configs").rglob("*.yaml")) == packed["configs"]


def test_no_module_of_core_names_the_package():
    absolute = re.compile(r"^\s*(from core[. ]|import core\b)", re.MULTILINE)
    docstrings = re.compile(r'""".*?"""', re.DOTALL)
    named = [
        path
        for path in (ROOT / "core").rglob("*.py")
        if absolute.search(docstrings.sub("", path.read_text(encoding="utf-8")))
    ]
    assert named == []


def build(folder):
    """A wheel of the repository, built without a network from a copy of its files."""
    pytest.importorskip("setuptools", minversion="77", reason="setuptools builds the wheel")
    source = folder / "source"
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*FILES, "weights/tiny+TTD.safetensors"):
        shutil.copy(ROOT / name, source / name)
    wheel = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w"]
    subprocess.run([sys.executable, *wheel, str(folder), str(source)], check=True)
    (made,) = folder.glob("ttd-*.whl")
    shutil.rmtree(source)
    return made


def environment(folder):
    """The Python of a fresh environment that sees the packages of this one but not the checkout."""
    make = ["-m", "venv", "--without-pip"]
    subprocess.run([sys.executable, *make, str(folder)], check=True)
    place = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    shared = sysconfig.get_path("purelib")
    (place / "shared.pth").write_text(f"{shared}\n", encoding="utf-8")
    return next(path for path in folder.glob("*/python*") if path.stem == "python")


@pytest.mark.slow
def test_the_readmes_lines_run_on_the_installed_package_from_anywhere(tmp_path):
    wheel = build(tmp_path)
    python = environment(tmp_path / "venv")
    install = ["-m", "pip", "--python"]
    options = ["install", "-q", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, *install, str(python), *options, str(wheel)], check=True)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(from ttd import.*?)```", readme, re.DOTALL)
    assert len(block.splitlines()) <= 12
    more = (
        "import sys, ttd\n"
        "assert 'site-packages' in ttd.__file__, ttd.__file__\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'core']\n"
        "from ttd.data.labels.dataset_yaml import load_shipped\n"
        "from ttd.data.words import stopwords\n"
        "from ttd.refine.pamr_library import SOURCE\n"
        "assert load_shipped('VOC2012')['classes'] and 'the' in stopwords() and SOURCE.is_file()\n"
        "load_backbone('tiny-cls', device='cpu')\n"
        "print('done')\n"
    )
    (tmp_path / "other").mkdir()
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), "-c", block + more],
        cwd=tmp_path / "other",
        env={**clean, "TTD_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stderr
