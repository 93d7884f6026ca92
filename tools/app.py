"""A local page to play with: captions, tags and phrases about your own pictures.

    make app                                             # the models whose weights are here
    python tools/app.py --lora weights/tiny+TTD.safetensors
    python tools/app.py --arch CLIP --scales 1.0 0.5 --grounder clip-vg.pth
    python tools/app.py --host 0.0.0.0                   # for others in your network, too

Needs `pip install -r requirements-app.txt`. Works without a network: nothing is loaded from outside
and nothing is reported. One question is answered at a time, the others wait in a queue; uploads and
memory are bounded. Pictures lie in a folder of their own, which is removed at the end.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import choose_device, model_options, positive_int, run, view_options

from core.errors import TTDError

if TYPE_CHECKING:
    from core.app.studio import Studio

MEGAPIXELS = "50"  # of a picture, unless TTD_MAX_MEGAPIXELS says otherwise
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
# What a browser may load: this page's own files, whatever a library would like.
POLICY = "; ".join((
    "default-src 'self'", "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src 'self' 'unsafe-inline'", "img-src 'self' data: blob:", "font-src 'self' data:",
    "connect-src 'self'", "worker-src 'self' blob:", "object-src 'none'", "base-uri 'self'",
))  # fmt: skip


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        parents=[model_options(), view_options(pamr=False)],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("page")
    group.add_argument("--grounder", metavar="FILE", help="a grounding model, ours or CLIP-VG's")
    group.add_argument(
        "--host",
        default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        metavar="ADDRESS",
        help="where to listen; 0.0.0.0 is every network of this machine (default: %(default)s)",
    )
    group.add_argument(
        "--port",
        type=port_number,
        metavar="N",
        help="default: $GRADIO_SERVER_PORT, else the first free one from 7860",
    )
    group.add_argument(
        "--memory",
        type=positive_int,
        default=1024,
        metavar="MB",
        help="for pictures and what is known of them, besides the models (default: %(default)s)",
    )
    group.add_argument(
        "--upload", type=positive_int, default=20, metavar="MB", help="largest file (default: 20)"
    )
    group.add_argument("--open", action="store_true", help="open it in the browser, too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C."""
    args = get_args_parser().parse_args(argv)
    with served(args, make_studio(args)) as address:
        print(f"{address}   (Ctrl-C ends it)", flush=True)
        wait()
    return 0


@contextmanager
def served(args: argparse.Namespace, studio: Studio) -> Iterator[str]:
    """Serve the page while the block runs -> its address. TTDError: no Gradio, no free port."""
    os.environ.update(QUIET)  # before Gradio is imported, which reads them once
    os.environ.setdefault("TTD_MAX_MEGAPIXELS", MEGAPIXELS)
    with tempfile.TemporaryDirectory(prefix="ttd-page-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        # Embeddings of visitors' tags are not kept for good.
        os.environ.setdefault("TTD_CACHE", str(Path(folder) / "texts"))
        build, warm_up = page_parts()
        page = build(studio)
        options = _options(args, Path(folder))
        try:
            _, local, _ = page.launch(**options)
        except OSError as error:
            raise TTDError(f"--host {args.host}, --port {args.port}: {error}") from None
        threading.Thread(target=warm_up, args=(studio,), daemon=True).start()
        try:
            yield local
        finally:
            page.close(verbose=False)


def make_studio(args: argparse.Namespace) -> Studio:
    """The models and bounds that the options name. TTDError: a file that is not there."""
    from core.app.limits import MEGABYTE, Limits
    from core.app.models import offer, with_given
    from core.app.studio import Looks, Studio

    files = [
        None if name is None else Path(name) for name in (args.weights, args.lora, args.grounder)
    ]
    for option, file in zip(("--weights", "--lora", "--grounder"), files, strict=True):
        if file is not None and not file.exists() and not str(file).startswith("hf-hub:"):
            raise TTDError(f"{option} {file}: no such file; check the path")
    found = with_given(offer(), args.arch, *files)
    device = choose_device(args.device, args.gpus)
    looks = Looks(args.image, tuple(args.scales), args.hflip, device, args.dtype, args.head)
    limits = Limits(upload=args.upload * MEGABYTE, memory=args.memory * MEGABYTE)
    return Studio(found, looks, limits)


def page_parts() -> tuple[Any, Any]:
    """What makes the page and what warms it up. TTDError where Gradio is not installed."""
    try:
        from app_page import build, warm_up
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise TTDError(
            "the page needs Gradio: pip install -r requirements-app.txt, or make app"
        ) from None
    return build, warm_up


def _options(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What Gradio is started with."""
    from app_page import FILES, theme

    return {
        "server_name": args.host,
        "server_port": args.port,
        "inbrowser": args.open,
        "quiet": True,
        "prevent_thread_lock": True,
        "share": False,
        "ssr_mode": False,
        "show_error": False,
        "footer_links": [],
        "max_file_size": args.upload * 2**20,
        "theme": theme(),
        "css_paths": [FILES / "page.css"],
        "app_kwargs": {"middleware": _middleware(folder, args.upload * 2**20)},
    }


def _middleware(folder: Path, upload: int) -> list[Any]:
    """What stands around every request: the browser's policy, and room for an upload."""
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware

    from core.app.uploads import TIMES, make_room

    async def around(request: Any, call_next: Any) -> Any:
        if request.url.path.endswith("/upload"):
            make_room(folder, (TIMES - 1) * upload)
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return [Middleware(BaseHTTPMiddleware, dispatch=around)]


def wait() -> None:
    """Until Ctrl-C, or until the process is asked to end; either way uploads are removed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Event().wait()


def port_number(text: str) -> int:
    """argparse type: a port, 1 to 65535."""
    value = positive_int(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text}: ports end at 65535")
    return value


if __name__ == "__main__":
    run(main)
