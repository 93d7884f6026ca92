"""The page's command line, without Gradio: what it needs, refuses and binds to."""

import ast
import sys

import app
import pytest
from paths import ROOT

from core.errors import TTDError


def parsed(*arguments):
    return app.get_args_parser().parse_args(list(arguments))


def test_it_listens_to_this_machine_unless_told(monkeypatch):
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    assert parsed().host == "127.0.0.1"
    assert parsed("--host", "0.0.0.0").host == "0.0.0.0"
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")  # as hosted pages are started
    assert parsed().host == "0.0.0.0"


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1"])
def test_a_port_is_a_port(port, capsys):
    with pytest.raises(SystemExit):
        parsed("--port", port)
    assert "--port" in capsys.readouterr().err


def test_without_gradio_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "app_page", raising=False)
    with pytest.raises(TTDError, match="requirements-app.txt") as caught:
        app.page_parts()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["--weights", "--lora", "--grounder"])
def test_a_file_that_is_not_there_is_named_before_anything_is_served(option):
    with pytest.raises(TTDError, match=f"{option} gone.pt: no such file"):
        app.make_studio(parsed(option, "gone.pt"))


def test_options_reach_the_studio():
    lora = str(ROOT / "weights" / "tiny+TTD.safetensors")
    more = ["--memory", "3", "--upload", "2", "--scales", "1.0", "0.5", "--image", "96"]
    studio = app.make_studio(parsed("--lora", lora, *more))
    assert (studio.limits.memory, studio.limits.upload) == (3 * 2**20, 2 * 2**20)
    assert (studio.looks.scales, studio.looks.image) == ((1.0, 0.5), 96)
    assert studio.offer.models[0].name == "tiny"
    assert next(iter(studio.offer.models[0].adapters)) == "tiny+TTD"


def test_core_does_not_import_gradio():
    for path in (ROOT / "core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "gradio"], path


def test_the_browser_may_load_from_this_page_alone():
    directives = dict(part.partition(" ")[::2] for part in app.POLICY.split("; "))
    assert directives["default-src"] == "'self'" and directives["connect-src"] == "'self'"
    for sources in directives.values():
        assert not [one for one in sources.split() if "." in one or "http" in one or one == "*"]


def test_the_script_of_the_page_never_writes_html():
    script = (ROOT / "tools" / "app_files" / "viewer.js").read_text(encoding="utf-8")
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert name not in script
