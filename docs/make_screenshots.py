"""Photograph what a finished quickstart run shows in a browser: report, VisualDL, the page of answers, the local page.

    python tools/train.py -c configs/quickstart.yaml
    pip install -r requirements-browser.txt
    python docs/make_screenshots.py [report visualdl answers serve]

Needs Chromium (or `playwright install chromium`). The own pictures are drawn blossoms of the run's novel classes.
"""

import contextlib
import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image
from playwright.sync_api import sync_playwright

from ppfsl.config_file import load_config
from ppfsl.data.support_set import load_support_set
from ppfsl.data.synthetic import draw_blossom

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "output" / "quickstart"
IMAGES = ROOT / "docs" / "images"
SHOTS, QUERIES, PIXELS = 5, 3, 160
UNKNOWN = 1  # a blossom of another class among the queries
WIDE, PHONE = {"width": 1100, "height": 900}, {"width": 420, "height": 860}


def main() -> None:
    """Write docs/images/*.png."""
    wanted = sys.argv[1:] or list(SCENES)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for name in wanted:
            SCENES[name](browser, Path(scratch) / name)
        browser.close()


def report(browser: Any, _: Path) -> None:
    """The head of the report, its mistakes, and its head on a phone in the dark."""
    address = (RUN / "report.html").as_uri()
    page = browser.new_page(viewport=WIDE)
    page.goto(address)
    keep(page.screenshot(), "report")
    section = page.locator("section", has=page.get_by_role("heading", name="Mistakes", exact=True))
    keep(section.screenshot(), "report_mistakes")
    page.close()
    page = browser.new_page(viewport=PHONE, color_scheme="dark")
    page.goto(address)
    keep(page.screenshot(), "report_phone")
    page.close()


def visualdl(browser: Any, _: Path) -> None:
    """Curves, histograms and projector."""
    command = [str(Path(sys.executable).with_name("visualdl")), "--logdir", str(RUN.relative_to(ROOT) / "vdl")]
    command += ["--language", "en", "--disable-telemetry"]
    with server(lambda port: [*command, "--host", "127.0.0.1", "--port", str(port)], "/app/index") as address:
        for place, name in (("scalar", "curves"), ("histogram", "histograms"), ("high-dimensional", "projector")):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"{address}/app/{place}")
            page.wait_for_timeout(8000)  # its charts draw themselves in
            for _attempt in range(8):
                seen = page.inner_text("body")
                if "Parsing data" not in seen and "No visualized data" not in seen:
                    break
                if "Parsing data" not in seen:
                    page.reload()  # its projector sometimes mixes up its two first answers
                page.wait_for_timeout(8000)
            keep(page.screenshot(), f"visualdl_{name}")
            page.close()


def answers(browser: Any, scratch: Path) -> None:
    """The page that tools/predict.py writes."""
    support, queries = blossoms(scratch)
    model, page_file = scratch / "blossoms.safetensors", scratch / "answers.html"
    tool(scratch, "finetune", "--support", support.name, "--model", model.name, "--checkpoint", RUN)
    tool(scratch, "predict", "--model", model.name, queries.name, "--html", page_file.name)
    page = browser.new_page(viewport=WIDE)
    page.goto(page_file.as_uri())
    keep(page.screenshot(), "answers")
    page.close()


def serve(browser: Any, scratch: Path) -> None:
    """The local page in English and Chinese."""
    support, queries = blossoms(scratch)
    command = [sys.executable, str(ROOT / "tools" / "serve.py"), "--checkpoint", str(RUN)]
    with server(lambda port: [*command, "--port", str(port)], "/") as address:
        for locale, name in (("en-GB", "serve"), ("zh-CN", "serve_zh")):
            page = browser.new_page(viewport={"width": 900, "height": 1200}, locale=locale, bypass_csp=True)
            page.goto(address)
            for folder in sorted(support.iterdir())[:3]:
                page.fill("#class-name", folder.name)
                page.click("#new-class button")
                page.locator(".class").last.locator("input[type=file]").set_input_files(sorted(folder.iterdir()))
                page.wait_for_function(
                    f"document.querySelector('.class:last-child').querySelectorAll('figure').length === {SHOTS}"
                )
            page.click("#build")
            page.wait_for_function("/[0-9]/.test(document.getElementById('built').textContent)")
            chosen = [queries / "A2.png", queries / "C1.png"]
            page.locator("#ask input[type=file]").set_input_files(chosen)
            page.wait_for_selector(".answer")
            page.wait_for_timeout(500)
            keep(page.screenshot(full_page=True), name)
            page.close()


def blossoms(folder: Path) -> tuple[Path, Path]:
    """Drawn pictures of the run's support classes, and others to ask about, as anybody's own: two folders."""
    config, support_set = load_config(RUN / "config.yaml"), load_support_set(RUN / "support_set.json")
    support, queries = folder / "support", folder / "pictures"
    labels = [label for label, _ in support_set.classes]
    for letter, label in zip("ABCDEFGH", labels, strict=False):
        name = f"blossom {letter}"
        (support / name).mkdir(parents=True)
        queries.mkdir(exist_ok=True)
        for index in range(SHOTS + QUERIES):
            picture = draw_blossom(config.data.synthetic.seed, label, 100 + index, PIXELS)
            if index < SHOTS:
                picture.save(support / name / f"{index + 1}.png")
            else:
                picture.save(queries / f"{letter}{index - SHOTS + 1}.png")
    other = next(label for label in range(1, config.data.synthetic.classes + 1) if label not in labels)
    for index in range(UNKNOWN):
        draw_blossom(config.data.synthetic.seed, other, 100 + index, PIXELS).save(queries / f"Z{index + 1}.png")
    return support, queries


def tool(folder: Path, name: str, *arguments: str | Path) -> None:
    """Run a tool of ours in a folder."""
    subprocess.run([sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)], check=True, cwd=folder)


@contextlib.contextmanager
def server(command: Callable[[int], list[str]], ready: str) -> Iterator[str]:
    """Run a server on a free port; its address, once it answers at the path `ready`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(command(port), stdout=subprocess.DEVNULL, cwd=ROOT)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address + ready, timeout=1).close()
                break
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def keep(png: bytes, name: str) -> None:
    """Write a screenshot; 255 colours show it well enough, in a third of the bytes."""
    target = IMAGES / f"{name}.png"
    Image.open(io.BytesIO(png)).convert("RGB").quantize(255).save(target, optimize=True)
    print(target.relative_to(ROOT), target.stat().st_size // 1024, "KB")


SCENES: dict[str, Callable[[Any, Path], None]] = {
    "report": report,
    "visualdl": visualdl,
    "answers": answers,
    "serve": serve,
}


if __name__ == "__main__":
    main()
