"""The API from outside: what it gives, and what it makes of hostile requests."""

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from starlette.testclient import TestClient

from ppfsl.classifier.model import load_classifier
from ppfsl.serving.app import build_app
from ppfsl.serving.sessions import Sessions
from tests.bombs import bomb

Draw = Callable[[str, int], bytes]
Make = Callable[..., Sessions]


def client_of(sessions: Sessions) -> TestClient:
    return TestClient(build_app(sessions, ["127.0.0.1", "localhost"]), base_url="http://127.0.0.1:8000")


@pytest.fixture
def client(open_sessions: Make) -> Iterator[TestClient]:
    with client_of(open_sessions()) as client:
        client.headers["X-Session"] = client.post("/api/sessions").json()["session"]
        yield client


def add(client: TestClient, label: str, *contents: bytes, **parameters: Any) -> httpx2.Response:
    files = [("files", (f"{label} {n}.png", content)) for n, content in enumerate(contents)]
    return client.post("/api/pictures", params={"label": label}, files=files, **parameters)


def ask(client: TestClient, *contents: bytes) -> httpx2.Response:
    return client.post("/api/answers", files=[("files", (f"{n}", content)) for n, content in enumerate(contents)])


def test_from_pictures_to_labels(client: TestClient, picture: Draw) -> None:
    for label in ("red", "绿"):
        added = add(client, label, *(picture(label, n) for n in range(3)))
        assert added.status_code == 200 and [one["picture"] for one in added.json()] == [
            f"{label} {n}.png" for n in range(3)
        ]
    shown = client.get("/api/session").json()
    assert [(c["label"], len(c["pictures"])) for c in shown["classes"]] == [("red", 3), ("绿", 3)]
    assert shown["built"] is False
    built = client.post("/api/classifier").json()
    assert (built["classes"], built["left_out"], built["right"], built["rejection"]) == (["red", "绿"], 6, 6, None)
    assert client.get("/api/session").json()["built"] is True
    green, broken = ask(client, picture("绿", 9), b"broken").json()
    assert green["label"] == "绿" and sum(green["probabilities"].values()) == pytest.approx(1)
    assert [near["label"] for near in green["nearest"]] == ["绿"] * 3
    assert sorted(near["number"] for near in green["nearest"]) == [4, 5, 6]
    assert set(broken) == {"picture", "error"}
    thumbnail = client.get(f"/api/pictures/{green['nearest'][0]['number']}")
    assert thumbnail.headers["content-type"] == "image/jpeg" and Image.open(io.BytesIO(thumbnail.content)).size == (
        96,
        96,
    )


def test_what_is_removed_is_gone(client: TestClient, picture: Draw) -> None:
    add(client, "red", picture("red", 0))
    assert client.delete("/api/pictures/1").status_code == 204
    assert client.get("/api/pictures/1").status_code == 404
    assert client.get("/api/session").json()["classes"] == []
    assert client.delete("/api/session").status_code == 204
    gone = client.get("/api/session")
    assert (gone.status_code, gone.json()) == (404, {"error": "this session has ended; reload the page"})


def test_another_session_sees_nothing(client: TestClient, picture: Draw) -> None:
    add(client, "red", picture("red", 0))
    other = {"X-Session": client.post("/api/sessions").json()["session"]}
    assert client.get("/api/pictures/1", headers=other).status_code == 404
    assert client.get("/api/session", headers=other).json() == {"classes": [], "built": False}
    client.delete("/api/pictures/1", headers=other)
    assert client.get("/api/pictures/1").status_code == 200


@pytest.mark.parametrize("token", ["", "x", "../../etc/passwd", "a" * 99])
def test_made_up_tokens_open_nothing(token: str, client: TestClient, picture: Draw) -> None:
    headers = {"X-Session": token}
    answers = [
        client.get("/api/session", headers=headers),
        client.post("/api/classifier", headers=headers),
        client.post("/api/answers", headers=headers, files=[("files", ("a", picture("red", 0)))]),
        add(client, "red", picture("red", 0), headers=headers),
    ]
    assert {answer.status_code for answer in answers} == {404}


def test_long_tokens_and_missing_ones_are_refused(client: TestClient) -> None:
    refused = client.get("/api/session", headers={"X-Session": "a" * 5000})
    assert (refused.status_code, list(refused.json())) == (422, ["error"])
    assert refused.json()["error"].startswith("X-Session: ")
    del client.headers["X-Session"]
    assert client.get("/api/session").status_code == 422


def test_every_refusal_is_one_sentence(client: TestClient, picture: Draw) -> None:
    for answer, status in (
        (add(client, "a" * 300, picture("red", 0)), 422),
        (client.post("/api/pictures", params={"label": "a"}, data={"files": "text"}), 422),
        (client.put("/api/sessions"), 405),
        (client.get("/api/nowhere"), 404),
    ):
        assert answer.status_code == status
        (sentence,) = answer.json().values()
        assert isinstance(sentence, str) and list(answer.json()) == ["error"]


def test_uploads_of_nobody_are_refused_unread(client: TestClient) -> None:
    """A body that is no form would else be what is complained of."""
    for token in ("made up", ""):
        headers = {"X-Session": token, "Content-Type": "multipart/form-data; boundary=x"}
        refused = client.post("/api/answers", headers=headers, content=b"no form")
        assert (refused.status_code, refused.json()["error"]) == (404, "this session has ended; reload the page")


def test_more_uploads_than_memory_allows_are_sent_away(open_sessions: Make, picture: Draw) -> None:
    with client_of(open_sessions(uploads=0)) as client:
        client.headers["X-Session"] = client.post("/api/sessions").json()["session"]
        refused = add(client, "red", picture("red", 0))
        assert (refused.status_code, refused.json()["error"]) == (
            503,
            "there are too many uploads at the moment; try again in a few seconds",
        )


def test_foreign_hosts_and_foreign_pages_are_refused(client: TestClient) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    for site in ("cross-site", "same-site"):
        refused = client.post("/api/sessions", headers={"Sec-Fetch-Site": site})
        assert (refused.status_code, refused.json()) == (403, {"error": "requests from other sites are refused"})
    assert client.post("/api/sessions", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 201
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9000", "https://127.0.0.1:8000.evil.example"):
        refused = client.post("/api/sessions", headers={"Origin": origin})
        assert (refused.status_code, refused.json()) == (403, {"error": "requests from other sites are refused"})
        assert "access-control-allow-origin" not in refused.headers
    assert client.post("/api/sessions", headers={"Origin": "http://127.0.0.1:8000"}).status_code == 201


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b"%PDF-1.7", b"\x80\x04\x95cos\nsystem\n", b"<svg onload='alert(1)'/>", bomb(60_000, 60_000)],
)
def test_what_is_no_picture_is_said_and_kept_out(content: bytes, client: TestClient, picture: Draw) -> None:
    broken, good = add(client, "red", content, picture("red", 0)).json()
    assert set(broken) == {"picture", "error"} and "number" in good
    assert len(client.get("/api/session").json()["classes"][0]["pictures"]) == 1


def test_names_that_look_like_code_come_back_as_text(client: TestClient, picture: Draw) -> None:
    name = "<script>alert(1)</script> ../../x \u202e"
    label = "<img src=x onerror=alert(1)>"
    files = [("files", (name, picture("red", 0)))]
    assert client.post("/api/pictures", params={"label": label}, files=files).status_code == 200
    answer = client.get("/api/session")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["classes"][0]["label"] == label


def test_large_requests_are_refused_whatever_they_say(open_sessions: Make, picture: Draw) -> None:
    with client_of(open_sessions(request_bytes=10_000)) as client:
        client.headers["X-Session"] = client.post("/api/sessions").json()["session"]
        said = add(client, "red", b"x" * 20_000)
        assert (said.status_code, said.json()) == (413, {"error": "a request may have 10000 bytes at most"})
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        start = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        parts = iter([start, *[b"x" * 1000] * 30, b"\r\n--b--\r\n"])
        unsaid = client.post("/api/pictures?label=red", content=parts, headers=kind)
        assert unsaid.status_code in (400, 413)
        assert client.get("/api/session").json()["classes"] == []


def test_large_pictures_stay_in_memory(
    client: TestClient, picture: Draw, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))  # a file made there would fail
    large = picture("red", 0) + b"\0" * 3_000_000
    assert add(client, "red", large).json() == [{"picture": "red 0.png", "number": 1}]


def test_many_pictures_at_once_are_refused(open_sessions: Make, picture: Draw) -> None:
    with client_of(open_sessions(pictures_per_request=2)) as client:
        client.headers["X-Session"] = client.post("/api/sessions").json()["session"]
        refused = add(client, "red", *[picture("red", 0)] * 3)
        assert (refused.status_code, refused.json()) == (413, {"error": "a request may bring 2 pictures at most"})


def test_mistakes_are_one_sentence(client: TestClient, picture: Draw) -> None:
    for answer, error in (
        (ask(client, picture("red", 0)), "there is no classifier yet; build one first"),
        (client.post("/api/classifier"), "a classifier needs pictures of two classes or more"),
        (add(client, " ", picture("red", 0)), "a class needs a name of 1 to 100 printable characters"),
    ):
        assert (answer.status_code, answer.json()) == (400, {"error": error})


def test_more_work_than_can_wait_is_sent_away(
    open_sessions: Make, picture: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = open_sessions(waiting=1)
    begun, go_on = threading.Event(), threading.Event()
    really = sessions.add

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return really(*arguments)

    monkeypatch.setattr(sessions, "add", slow)
    with client_of(sessions) as client:
        client.headers["X-Session"] = client.post("/api/sessions").json()["session"]
        first: list[httpx2.Response] = []
        thread = threading.Thread(target=lambda: first.append(add(client, "red", picture("red", 0))))
        thread.start()
        assert begun.wait(30)
        refused = client.post("/api/classifier")
        go_on.set()
        thread.join()
        assert (refused.status_code, first[0].status_code) == (503, 200)
        assert client.post("/api/classifier").status_code == 400


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")]
)
def test_the_page_loads_nothing_from_elsewhere(path: str, kind: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "http://" not in answer.text and "https://" not in answer.text and "innerHTML" not in answer.text


def test_the_api_describes_itself(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/api/sessions", "/api/session", "/api/pictures", "/api/pictures/{number}", "/api/classifier", "/api/answers",
    }  # fmt: skip
    for path in ("/docs", "/redoc", "/static/../page.html", "/api/../tools/serve.py"):
        assert client.get(path).status_code == 404


def test_keeping_a_classifier(client: TestClient, picture: Draw, tmp_path: Path) -> None:
    refused = client.get("/api/classifier")
    assert (refused.status_code, refused.json()["error"]) == (400, "there is no classifier yet; build one first")
    for label in ("red", "绿"):
        add(client, label, picture(label, 0), picture(label, 1))
    client.post("/api/classifier")
    kept = client.get("/api/classifier")
    assert kept.headers["content-type"] == "application/octet-stream"
    (tmp_path / "kept.safetensors").write_bytes(kept.content)
    classifier = load_classifier(tmp_path / "kept.safetensors")
    assert (classifier.class_names, len(classifier.files)) == (("red", "绿"), 4)
    client.headers["X-Session"] = client.post("/api/sessions").json()["session"]
    assert client.get("/api/classifier").status_code == 400, "another visitor has none"
