"""The page in a browser, used as a person would."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from ppfsl.classifier.model import load_classifier
from ppfsl.classifier.predict import Answer, Labeller
from ppfsl.serving.app import build_app
from ppfsl.serving.sessions import Sessions

browsers = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright (requirements-browser.txt)", exc_type=ImportError
)
Draw = Callable[[str, int], bytes]
CLASSES = ("red", "绿", "blue")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsers.sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        try:
            opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        except browsers.Error as error:
            pytest.skip(f"needs a Chromium ({str(error).splitlines()[0]})")
        yield opened
        opened.close()


@pytest.fixture
def address(open_sessions: Callable[..., Sessions]) -> Iterator[str]:
    """A server's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = build_app(open_sessions(), ["127.0.0.1"])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, in English; what the browser complains of fails the test."""
    opened = browser.new_page(locale="en-GB", viewport={"width": 390, "height": 800})
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    opened.goto(address)
    yield opened
    opened.close()
    assert not complaints


def files(picture: Draw, label: str, *numbers: int) -> list[dict[str, Any]]:
    return [{"name": f"{label} {n}.png", "mimeType": "image/png", "buffer": picture(label, n)} for n in numbers]


def add_class(page: Any, name: str, pictures: list[dict[str, Any]]) -> None:
    page.fill("#class-name", name)
    page.click("#new-class button")
    page.locator(".class").last.locator("input[type=file]").set_input_files(pictures)
    browsers.expect(page.locator(".class").last.locator("figure")).to_have_count(len(pictures))


def build(page: Any) -> None:
    page.click("#build")
    browsers.expect(page.locator("#built")).to_contain_text("classes.")


def ask(page: Any, pictures: list[dict[str, Any]]) -> None:
    before = page.locator(".answer").count()
    page.locator("#ask input[type=file]").set_input_files(pictures)
    browsers.expect(page.locator(".answer")).to_have_count(before + len(pictures))


def test_from_pictures_to_labels(page: Any, picture: Draw) -> None:
    browsers.expect(page.locator("#build")).to_be_disabled()
    for label in CLASSES:
        add_class(page, label, files(picture, label, 0, 1, 2))
    build(page)
    browsers.expect(page.locator("#built")).to_contain_text("9 of 9 right")
    ask(page, [file for label in CLASSES for file in files(picture, label, 7)])
    for place, label in enumerate(CLASSES):
        answer = page.locator(".answer").nth(place)
        browsers.expect(answer.locator(".label")).to_contain_text(label)
        shares = [float(text.rstrip(" %")) for text in answer.locator(".bar span:last-child").all_inner_texts()]
        assert len(shares) == 3 and sum(shares) == pytest.approx(100, abs=0.2) and shares == sorted(shares)[::-1]
        near = answer.locator(".near img")
        browsers.expect(near).to_have_count(3)
        assert near.first.get_attribute("alt") == label
        assert near.first.evaluate("image => image.naturalWidth") > 0, "the nearest support picture is shown"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it fits a phone"


def test_mistakes_are_named_and_nothing_is_lost(page: Any, picture: Draw) -> None:
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}
    add_class(page, "red", files(picture, "red", 0, 1))
    page.fill("#class-name", "blue")
    page.click("#new-class button")
    page.locator(".class").last.locator("input[type=file]").set_input_files([broken, *files(picture, "blue", 0)])
    browsers.expect(page.locator("#problem")).to_contain_text("broken.png: it is none of JPEG, PNG")
    browsers.expect(page.locator("figure")).to_have_count(3)
    page.locator("#ask input[type=file]").set_input_files(files(picture, "red", 5))
    browsers.expect(page.locator("#problem")).to_have_text("Build the classifier first.")
    build(page)
    ask(page, [*files(picture, "red", 5), broken])
    browsers.expect(page.locator(".answer").nth(1)).to_contain_text("broken.png: it is none of")
    page.locator("figure button").first.click()
    browsers.expect(page.locator("#built")).to_have_text("The pictures have changed: build again.")
    browsers.expect(page.locator("figure")).to_have_count(2)


def test_more_pictures_than_a_request_may_bring_go_in_several(page: Any, picture: Draw) -> None:
    add_class(page, "red", files(picture, "red", *range(25)))
    add_class(page, "blue", files(picture, "blue", 0, 1))
    build(page)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/api/answers") else None)
    ask(page, files(picture, "red", *range(30, 84)))
    assert len(sent) == 3
    names = page.locator(".answer > img").evaluate_all("images => images.map(image => image.alt)")
    assert names == [f"red {number}.png" for number in range(30, 84)], "in their order"


def test_the_classifier_can_be_kept_and_asked_without_the_page(page: Any, picture: Draw, tmp_path: Path) -> None:
    for label in ("red", "绿"):
        add_class(page, label, files(picture, label, 0, 1))
    browsers.expect(page.locator("#keep")).to_be_hidden()
    build(page)
    with page.expect_download() as download:
        page.click("#keep")
    download.value.save_as(tmp_path / "kept.safetensors")
    classifier = load_classifier(tmp_path / "kept.safetensors")
    assert classifier.class_names == ("red", "绿")
    (answer,) = Labeller(classifier).label_batch([("new", picture("绿", 9))])
    assert isinstance(answer, Answer) and answer.label == "绿"
    add_class(page, "blue", files(picture, "blue", 0))
    browsers.expect(page.locator("#keep")).to_be_hidden()


def test_names_are_text(page: Any, picture: Draw) -> None:
    name = "<img src=x onerror=alert(1)>"
    add_class(page, name, files(picture, "red", 0, 1))
    add_class(page, "blue", files(picture, "blue", 0, 1))
    build(page)
    ask(page, files(picture, "red", 3))
    browsers.expect(page.locator(".answer .label")).to_contain_text(name)
    assert page.locator('img[src="x"]').count() == 0


def test_chinese(browser: Any, address: str) -> None:
    page = browser.new_page(locale="zh-CN")
    page.goto(address)
    browsers.expect(page.locator("#build")).to_have_text("2. 建立分类器")
    assert page.evaluate("document.documentElement.lang") == "zh"
    page.click("#language")
    browsers.expect(page.locator("#build")).to_have_text("2. Build the classifier")
    page.close()


def test_visitors_see_their_own_pictures_alone_and_leave_nothing(
    browser: Any, address: str, page: Any, picture: Draw
) -> None:
    tokens: list[str] = []
    other = browser.new_context(locale="en-GB").new_page()
    other.on("request", lambda request: tokens.append(request.headers.get("x-session", "")))
    other.goto(address)
    add_class(other, "secret", files(picture, "blue", 0))
    assert "secret" not in page.content()
    (token,) = set(tokens) - {""}
    assert page.request.get(f"{address}api/session", headers={"X-Session": token}).ok
    other.close(run_before_unload=True)
    deadline = time.monotonic() + 10
    while page.request.get(f"{address}api/session", headers={"X-Session": token}).ok:
        assert time.monotonic() < deadline, "the pictures outlive their page"
        time.sleep(0.1)
