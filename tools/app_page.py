"""The page itself: how it looks, and which question each part of it asks (`core/app` answers).

Gradio is imported here and nowhere else; `tools/app.py` starts it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from cli import ROOT, say

from core.app.captions import ask_caption
from core.app.models import own_threshold
from core.app.phrases import ask_phrases
from core.app.studio import NotLoadedError, Studio
from core.app.tags import Labelled, ask_tags
from core.app.uploads import TIMES, make_room
from core.errors import TTDError

FILES = Path(__file__).parent / "app_files"
NONE = "none"
WAITING = 64  # questions in the queue; whoever comes then is told to come again
EXAMPLES = (
    ("weights/tiny/demo.jpg", "A red house and a tree under the purple bird, but without a fish"),
    ("weights/tiny-grounder/demo.jpg", "two red stars and a yellow house above an orange fish"),
)
TAGS = "red house, tree, purple bird, fish"
PHRASE = "the red house"
FONTS = ("system-ui", "-apple-system", "Segoe UI", "DejaVu Sans", "Arial", "sans-serif")
MONO = ("ui-monospace", "DejaVu Sans Mono", "Consolas", "monospace")
HEAD = """# Words light up in a picture
Which words of a caption are really there, and where: TTD scores every word by its nearest pixel."""
# One question at a time, whoever asks; while one waits, only the newest of the same part follows.
ONE = {"concurrency_limit": 1, "concurrency_id": "models", "trigger_mode": "always_last"}


def unopened(picture: gr.Image) -> gr.Image:
    """A picture whose file Gradio does not open: `core/data/images` looks at what it holds.

    Nothing is fetched from elsewhere for it. (A subclass of Gradio's would write a file beside
    this one.)
    """
    moved = picture.async_move_resource_to_block_cache

    async def only_uploaded(place: Any) -> str | None:
        if str(place or "").startswith(("http:", "https:")):
            raise gr.Error("upload the picture itself, not its address", print_exception=False)
        return await moved(place)

    picture.preprocess = lambda payload: None if payload is None else payload.path
    picture.async_move_resource_to_block_cache = only_uploaded
    return picture


def theme() -> gr.themes.Base:
    """Quiet colours, and fonts that every machine has: none is loaded from outside."""
    families = ([gr.themes.Font(name) for name in names] for names in (FONTS, MONO))
    font, mono = families
    return gr.themes.Default(
        primary_hue="red", neutral_hue="gray", font=font, font_mono=mono, radius_size="lg"
    )


def build(studio: Studio) -> gr.Blocks:
    """The page for a studio. TTDError in any answer is shown in its place."""
    page = gr.Blocks(title="TTD: words light up", analytics_enabled=False, delete_cache=(600, 7200))
    with page:
        gr.Markdown(HEAD, elem_id="head")
        caption = gr.Textbox(
            EXAMPLES[0][1], show_label=False, container=False, scale=6, max_lines=4, render=False,
            placeholder="a caption of the picture", elem_id="caption",
        )  # fmt: skip
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                common = _common(studio, caption)
            with gr.Column(scale=5, min_width=320), gr.Tabs():
                with gr.Tab("Caption"):
                    _captions(studio, page, common, caption)
                with gr.Tab("Own tags"):
                    _tags(studio, common)
                with gr.Tab("Phrase to box"):
                    _phrases(studio, common[0])
    page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    return page


def _common(studio: Studio, caption: gr.Textbox) -> list[Any]:
    """What all tabs share, on the left: picture, model, adapter, PAMR."""
    known = [[str(ROOT / file), text] for file, text in EXAMPLES if (ROOT / file).is_file()]
    picture = unopened(
        gr.Image(
            known[0][0] if known else None, type="filepath", label="Picture", buttons=[],
            sources=["upload", "clipboard"], height=280, elem_id="picture",
        )
    )  # fmt: skip
    gr.Examples(known, [picture, caption], label="Examples", elem_id="examples")
    models = studio.offer.models
    model = gr.Dropdown([one.name for one in models], value=models[0].name, label="Model")
    adapters = list(models[0].adapters)
    chosen = adapters[0] if adapters else NONE
    adapter = gr.Dropdown([NONE, *adapters], value=chosen, label="Adapter", elem_id="adapter")
    pamr = gr.Checkbox(False, label="Refine along edges (PAMR)", elem_id="pamr")
    with gr.Accordion("About the models", open=False):
        gr.Markdown(about(studio), elem_id="about")
    return [picture, model, adapter, pamr]


def about(studio: Studio) -> str:
    """What the models know, and what those that are not here need."""
    lines = [f"**{one.name}** {one.note}" for one in studio.offer.models if one.note]
    lines += [f"Not here: {line}" for line in studio.offer.missing]
    return "\n\n".join([*lines, "An adapter is shown beside the model without it."])


def _captions(studio: Studio, page: gr.Blocks, common: list[Any], caption: gr.Textbox) -> None:
    """Words of a caption, their maps, before and after an adapter."""
    picture, model, adapter, pamr = common
    with gr.Row():
        caption.render()
        button = gr.Button("Look", variant="primary", scale=1, min_width=90, elem_id="look")
    viewer = gr.HTML(
        None,
        html_template='<div class="viewer"></div>',
        css_template=_file("viewer.css"),
        js_on_load=_file("viewer.js"),
        apply_default_css=False,
        elem_id="viewer",
    )

    def answer(path: str | None, text: str, name: str, lora: str, refine: bool) -> Any:
        """The words of a caption: see `core/app/captions.py`; {"notice": line} for bad input."""
        found, notice = said(lambda: ask_caption(studio, path, text, name, _none(lora), refine))
        return found if notice is None else {"notice": notice}

    asked, given = [picture, caption, model, adapter, pamr], [viewer]
    gr.on(
        [button.click, caption.submit, picture.change, adapter.input, pamr.input, page.load],
        answer, asked, given, api_name="caption", show_progress="minimal", **ONE,
    )  # fmt: skip

    def adapters_of(name: str) -> Any:
        """The adapters of a model."""
        found = list(studio.offer.model(name).adapters)
        return gr.Dropdown([NONE, *found], value=found[0] if found else NONE)

    model.input(adapters_of, model, adapter, api_visibility="private").then(
        answer, asked, given, api_visibility="private", **ONE
    )


def _tags(studio: Studio, common: list[Any]) -> None:
    """A label map of tags, to look at and to take away."""
    model = common[1]
    with gr.Row():
        tags = gr.Textbox(
            TAGS, show_label=False, container=False, scale=6, max_lines=6, elem_id="tags",
            placeholder="tags between commas; person|human for synonyms",
        )  # fmt: skip
        button = gr.Button("Segment", variant="primary", scale=1, min_width=90, elem_id="segment")
    threshold = gr.Slider(
        0, 1, own_threshold(studio.offer.models[0]), step=0.01,
        label="Background below", info="of every tag's map; begins at what suits the model",
    )  # fmt: skip
    notice = gr.HTML(visible=False, elem_id="tags-notice")
    view = gr.Image(label="Label map", buttons=["fullscreen"], interactive=False, elem_id="labels")
    with gr.Row():
        png = gr.DownloadButton("Label map, PNG", interactive=False, elem_id="png")
        coco = gr.DownloadButton("COCO json", interactive=False, elem_id="coco")

    def answer(
        path: str | None, name: str, lora: str, refine: bool, text: str, cut: float
    ) -> list[Any]:
        """A label map: see `core/app/tags.py`; a notice for bad input."""
        ask = lambda: ask_tags(studio, path, text, name, _none(lora), refine, cut)  # noqa: E731
        found, line = said(ask)
        if line is not None:
            return [_notice(line), None, *[gr.DownloadButton(value=None, interactive=False)] * 2]
        files = stored(found, studio.limits.upload)
        missing = [tag for tag, share in found.found.items() if not share]
        line = f"not found above this threshold: {', '.join(missing)}" if missing else ""
        return [
            _notice(line),
            found.view,
            *(gr.DownloadButton(value=f, interactive=True) for f in files),
        ]

    given = [notice, view, png, coco]
    gr.on(
        [button.click, tags.submit, threshold.release], answer, [*common, tags, threshold], given,
        api_name="tags", **ONE,
    )  # fmt: skip
    model.input(
        lambda name: own_threshold(studio.offer.model(name)), model, threshold,
        api_visibility="private",
    )  # fmt: skip


def stored(found: Labelled, upload: int) -> list[str]:
    """Files to take away: the label map and the COCO file of an answer.

    They lie where uploads do, which has room for so many of the largest (upload: bytes) and no
    more, however often somebody asks.
    """
    place = Path(gr.utils.get_upload_folder())
    make_room(place, (TIMES - 1) * upload)
    folder = Path(tempfile.mkdtemp(dir=place))
    (folder / "labels.png").write_bytes(found.png)
    (folder / "coco.json").write_text(found.coco, encoding="utf-8")
    return [str(folder / file) for file in ("labels.png", "coco.json")]


def _phrases(studio: Studio, picture: Any) -> None:
    """Boxes of phrases, where a grounding model is here."""
    grounders = list(studio.offer.grounders)
    if not grounders:
        gr.Markdown(
            "No grounding model is here yet. Train one with `train_grounding.py`, or take CLIP-VG's"
            " checkpoint, and start the page with `python tools/app.py --grounder FILE`."
        )
        return
    with gr.Row():
        text = gr.Textbox(
            PHRASE, show_label=False, container=False, max_lines=8, scale=6, elem_id="phrases",
            placeholder="phrases, one to a line",
        )  # fmt: skip
        button = gr.Button("Find", variant="primary", scale=1, min_width=90)
    grounder = gr.Dropdown(grounders, value=grounders[0], label="Grounding model")
    notice = gr.HTML(visible=False)
    view = gr.Image(label="Boxes", buttons=["fullscreen"], interactive=False)
    boxes = gr.JSON(label="left, top, right, bottom in pixels")

    def answer(path: str | None, phrases: str, name: str) -> list[Any]:
        """Boxes: see `core/app/phrases.py`; a notice for bad input."""
        found, line = said(lambda: ask_phrases(studio, path, phrases, name))
        if line is not None:
            return [_notice(line), None, None]
        return [_notice(""), found.view, json.dumps(found.boxes, ensure_ascii=False)]

    asked = [picture, text, grounder]
    gr.on(
        [button.click, text.submit], answer, asked, [notice, view, boxes], api_name="phrase", **ONE
    )


def warm_up(studio: Studio) -> None:
    """Ask what the page shows first, so that the first visitor does not wait for the model."""
    first, model = ROOT / EXAMPLES[0][0], studio.offer.models[0]
    adapter = next(iter(model.adapters), "")
    if first.is_file():
        said(lambda: ask_caption(studio, str(first), EXAMPLES[0][1], model.name, adapter, False))


def said(ask: Callable[[], Any]) -> tuple[Any, str | None]:
    """An answer, or the line that is shown in its place.

    What nobody foresaw, and why a model cannot be loaded, goes to the terminal: a visitor can do
    nothing about it, and must not learn where files are.
    """
    try:
        return ask(), None
    except NotLoadedError as error:
        say(error.reason)
        return None, str(error)
    except TTDError as error:
        return None, str(error)
    except Exception as error:
        say(f"unexpected {type(error).__name__}: {error}")
        return None, "this could not be answered; whoever runs the page sees why in its terminal"


def _none(adapter: str | None) -> str:
    """The studio's name for no adapter."""
    return "" if adapter in (None, NONE) else str(adapter)


def _notice(line: str) -> Any:
    """A line above an answer, or nothing."""
    style = "padding:12px 16px;border-left:4px solid #c58a00;border-radius:8px;background:#fffaf0"
    shown = f'<div style="{style};color:#4a3a10">{escape(line)}</div>'
    return gr.HTML(shown if line else "", visible=bool(line))


def _file(name: str) -> str:
    """A file of the page."""
    return (FILES / name).read_text(encoding="utf-8")
