"""The page in a real browser: every request it makes, hovering, sliders, uploads, a phone's width.

Needs requirements-app-test.txt and a Chromium; skipped where they are missing.
"""

import base64
import io
import json
import os
import shutil
import socket
import sys
import threading
import time
from contextlib import contextmanager
from urllib.request import Request, urlopen

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason="the page needs Gradio: pip install -r requirements-app.txt")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="browser tests: pip install -r requirements-app-test.txt"
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
if CHROMIUM is None:
    pytest.skip("browser tests need a Chromium: apt install chromium", allow_module_level=True)

DEMO = ROOT / "weights" / "tiny" / "demo.jpg"
CAPTION = "A red house and a tree under the purple bird, but without a fish"
LOCAL = ("127.", "::1", "localhost")
OUTSIDE = []  # hosts that this process asked for


def note(event, arguments):
    """An audit hook: connections and look-ups of other machines."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
    elif event == "socket.getaddrinfo":
        host = str(arguments[0])
    else:
        return
    if not host.startswith(LOCAL):
        OUTSIDE.append(host)


@pytest.fixture(scope="module")
def page():
    """A page that is served in this process: its address and its studio."""
    import app

    sys.addaudithook(note)
    with socket.socket() as free, pytest.MonkeyPatch.context() as patch:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        for name in ("TTD_CACHE", "TTD_MAX_MEGAPIXELS", "GRADIO_TEMP_DIR", *app.QUIET):
            patch.delenv(name, raising=False)
            patch.setenv(name, "")  # so that they are as before at the end
            patch.delenv(name)
        args = app.get_args_parser().parse_args(["--port", str(port), "--device", "cpu"])
        studio = app.make_studio(args)
        with app.served(args, studio) as address:
            yield address, studio


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_why_a_model_cannot_be_loaded_is_said_in_the_terminal(capsys):
    from app_page import said

    from core.app.studio import NotLoadedError

    def ask():
        raise NotLoadedError("one", "/srv/private/one.pt: is damaged")

    assert said(ask) == (None, str(NotLoadedError("one", "")))
    assert "/srv/private/one.pt: is damaged" in capsys.readouterr().err


def test_files_to_take_away_are_bounded_as_uploads_are(tmp_path, monkeypatch):
    """They were removed only when somebody uploaded a picture."""
    from app_page import stored

    from core.app.tags import Labelled

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    answer = Labelled(np.zeros((1, 1, 3), np.uint8), b"x" * 1000, "{}", {})
    for _ in range(100):
        files = stored(answer, upload=100)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 7000
    assert [os.path.getsize(file) for file in files] == [1000, 2]


@contextmanager
def opened(chromium, page, width=1280, height=900):
    """A tab that shows the first answer, with what it asked for and complained about."""
    tab = chromium.new_page(viewport={"width": width, "height": height})
    tab.requests, tab.complaints = [], []
    tab.on("request", lambda request: tab.requests.append(request.url))
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.on("console", lambda line: tab.complaints.append(line.text) if line.type == "error" else 0)
    tab.on("dialog", lambda dialog: tab.complaints.append(f"dialog {dialog.message}"))
    tab.goto(page[0])
    tab.wait_for_selector(".viewer canvas", timeout=120_000)
    yield tab
    assert [url for url in tab.requests if not url.startswith((page[0], "data:", "blob:"))] == []
    assert tab.complaints == []
    tab.close()


def answered(tab, name):
    """Wait until the picture of this name is shown."""
    tab.wait_for_function(
        "name => document.querySelector('.viewer')?.dataset.picture === name", arg=name,
        timeout=60_000,
    )  # fmt: skip


def shown(tab, name):
    tab.wait_for_function(
        "name => document.querySelector('.viewer').dataset.shown === name", arg=name
    )


def kept(tab, pane):
    """The words that a pane keeps."""
    rows = f".viewer .pane:nth-child({pane}) .row.kept .name"
    return tab.locator(rows).all_inner_texts()


def canvas(tab, pane):
    """The pixels of a pane, uint8 [H, W, 3]."""
    script = """k => { const c = document.querySelectorAll('.viewer canvas')[k];
        return c.toDataURL('image/png').split(',')[1]; }"""
    data = base64.b64decode(tab.evaluate(script, pane))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def answer_of(page, path=DEMO, caption=CAPTION):
    from core.app.captions import ask_caption

    return ask_caption(page[1], str(path), caption, "tiny", "tiny+TTD", False)


def test_hovering_and_sliders_ask_nobody(page, chromium):
    from core.plots.heat import heat_colours

    with opened(chromium, page) as tab:
        answer = answer_of(page)
        shown(tab, "whole caption")
        for number, pane in enumerate(answer["panes"], start=1):
            assert kept(tab, number) == [w["text"] for w in pane["words"] if w["kept"]]
        time.sleep(0.5)
        encoded, requests = page[1].encoded, len(tab.requests)
        tab.click(".viewer button:has-text('as heat map')")
        tab.hover(".viewer button.word:has-text('bird')")
        shown(tab, "bird")
        entry = next(w for w in answer["panes"][1]["words"] if w["text"] == "bird")
        grey = Image.open(io.BytesIO(base64.b64decode(entry["map"].partition(",")[2])))
        values = np.asarray(grey.resize((384, 384), Image.Resampling.BILINEAR)) / 255
        np.testing.assert_allclose(canvas(tab, 1), heat_colours(values), atol=12)
        tab.mouse.move(1, 1)
        shown(tab, "whole caption")
        for cut in (0.0, 0.9, 1.0):
            tab.locator("input[aria-label='Keep words above']").fill(str(cut))
            for number, pane in enumerate(answer["panes"], start=1):
                assert kept(tab, number) == [w["text"] for w in pane["words"] if w["norm"] >= cut]
        tab.click(".viewer button:has-text('back to Otsu')")
        assert len(kept(tab, 1)) == 5
        tab.click(".viewer button:has-text('whole caption')")
        tab.locator("input[aria-label='Cut the map']").fill("0.5")
        tab.wait_for_timeout(200)
        assert set(map(tuple, canvas(tab, 0).reshape(-1, 3))) == {(255, 0, 0), (0, 0, 255)}
        asked = [url for url in tab.requests[requests:] if not url.startswith(("data:", "blob:"))]
        assert asked == [] and page[1].encoded == encoded


def test_upload_pamr_and_adapter(page, chromium, tmp_path):
    name = "<img src=x onerror=alert(1)>.png"
    Image.open(DEMO).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / name)
    with opened(chromium, page) as tab:
        tab.locator("#picture input[type=file]").set_input_files(str(tmp_path / name))
        tab.wait_for_function("document.querySelector('.viewer').dataset.picture !== 'demo.jpg'")
        tab.wait_for_selector(".viewer canvas")
        tab.fill("#caption textarea", "a bird <script>alert(1)</script>")
        tab.press("#caption textarea", "Enter")
        tab.wait_for_selector(".viewer button.word:has-text('bird')")
        encoded = page[1].encoded
        tab.check("#pamr input")
        tab.wait_for_function("document.querySelector('.viewer').dataset.refined === 'true'")
        assert page[1].encoded == encoded
        assert tab.locator(".viewer .pane").count() == 2


def test_hostile_uploads_are_one_friendly_line_each(page, chromium, tmp_path):
    contents = {"text.png": b"a login page", "empty.png": b"", "cut.png": DEMO.read_bytes()[:500]}
    with opened(chromium, page) as tab:
        for name, data in contents.items():
            (tmp_path / name).write_bytes(data)
            tab.locator("#picture input[type=file]").set_input_files(str(tmp_path / name))
            tab.wait_for_selector(f".viewer .notice:has-text('{name}')", timeout=60_000)
            line = tab.inner_text(".viewer .notice")
            assert "\n" not in line and "/" not in line and "Traceback" not in line
        tab.complaints.clear()  # of a thumbnail that no browser can draw


def test_own_tags_are_shown_and_taken_away(page, chromium, tmp_path):
    with opened(chromium, page) as tab:
        tab.click("button[role=tab]:has-text('Own tags')")
        tab.click("#segment")
        tab.wait_for_selector("#labels img", timeout=60_000)
        files = {}
        for button in ("png", "coco"):
            with tab.expect_download() as download:
                tab.click(f"#{button}")
            files[button] = download.value.path()
        labels = np.asarray(Image.open(files["png"]))
        content = json.loads(files["coco"].read_text())
        assert labels.shape == (384, 384) and content["images"][0]["file_name"] == "demo.jpg"
        areas = {one["category_id"]: one["area"] for one in content["annotations"]}
        assert areas == {k: int((labels == k).sum()) for k in np.unique(labels).tolist() if k}
        tab.fill("#tags textarea", "")
        tab.click("#segment")
        tab.wait_for_selector("#tags-notice:has-text('no list of tags yet')")
        tab.click("button[role=tab]:has-text('Phrase')")
        tab.wait_for_selector("text=/grounding model/i")


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_sticks_out_at_any_width(page, chromium, width):
    with opened(chromium, page, width) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        first, second = tab.locator(".viewer .pane").all()
        stacked = second.bounding_box()["y"] > first.bounding_box()["y"]
        assert stacked == (width == 360)
        for chosen in ("house", "whole caption"):
            tab.click(f".viewer button:has-text('{chosen}')")
            shown(tab, chosen)


def client(page):
    from gradio_client import Client

    return Client(page[0], verbose=False)


def test_twenty_requests_at_once_and_none_lost(page, tmp_path):
    from gradio_client import handle_file

    asked, jobs = client(page), []
    for k in range(20):
        path = tmp_path / f"{k}.png"
        Image.open(DEMO).crop((0, 0, 200 + k, 200)).save(path)
        more = {"api_name": "/caption"}
        jobs.append(
            asked.submit(handle_file(str(path)), f"a house {k}", "tiny", "none", False, **more)
        )
    answers = [job.result(timeout=120) for job in jobs]
    assert [one["picture"]["name"] for one in answers] == [f"{k}.png" for k in range(20)]
    assert [one["words"][-1] for one in answers] == [str(k) for k in range(20)]


def test_an_answer_takes_less_than_a_second_after_the_first(page):
    from gradio_client import handle_file

    asked, took = client(page), []
    for k in range(5):
        start = time.perf_counter()
        found = asked.predict(
            handle_file(str(DEMO)), f"a red house {k}", "tiny", "tiny+TTD", False,
            api_name="/caption",
        )  # fmt: skip
        took.append(time.perf_counter() - start)
        assert "panes" in found
    assert min(took[1:]) < 1


def raw_answer(page, picture):
    """What the page says to a request that no browser would make."""
    data = [
        {"path": picture, "meta": {"_type": "gradio.FileData"}},
        "a house",
        "tiny",
        "none",
        False,
    ]
    place, kind = f"{page[0]}gradio_api/call/caption", {"Content-Type": "application/json"}
    asked = Request(place, json.dumps({"data": data}).encode(), kind)
    with urlopen(asked) as reply:
        event = json.load(reply)["event_id"]
    with urlopen(f"{place}/{event}") as reply:
        return reply.read().decode()


def test_no_address_is_fetched_and_no_file_of_the_machine_is_read(page):
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.5)
        address = f"http://127.0.0.1:{other.getsockname()[1]}/a.png"
        for picture in (address, str(ROOT / "README.md"), "/etc/hostname", "../../etc/passwd"):
            said = raw_answer(page, picture)
            assert "event: error" in said and "panes" not in said and "Traceback" not in said
        with pytest.raises(TimeoutError):
            other.accept()


def test_the_server_asked_no_other_machine(page):
    assert OUTSIDE == []
    assert threading.active_count() < 60
