import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppfsl.errors import UserError
from ppfsl.randomness import generator
from ppfsl.reporting.report import write_report

VOID = {"meta", "link", "img", "br", "col"}
EVIL = "<script>alert('&\"')</script>"


class Page(HTMLParser):
    """Tags, attributes and text of a page; checks that every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open[-1:] != ["style"] else ""


def page_of(run: Path, **extras: Any) -> tuple[str, Page]:
    path = write_report(run, **extras)
    assert path == run / "report.html"
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def section(html: str, name: str) -> str:
    return html[html.index(f'<section id="{name}"') :].partition("</section>")[0]


@pytest.fixture
def full(fake_run: Any, evaluation: Any, pictures: Any) -> tuple[Path, dict[str, Any]]:
    """A run with inductive, transductive, one-support-set and validation evaluations, and all the extras."""
    run = fake_run(
        [
            evaluation(settings={"epochs": 100, "learning_rate": 0.01}),
            evaluation(shot=5, skill=0.9, part="novel", chance=0.2),
            evaluation(adaptation="soft_kmeans", transductive=True),
            evaluation(adaptation="finetune", way=8, query=7, episodes=1, support_set=True),
            evaluation(adaptation="nearest", part="validation"),
        ]
    )
    embeddings = generator(0, "embeddings").normal(size=(40, 6))
    labels = [f"class {n % 8}" for n in range(40)]
    extras = {"support_images": pictures(16), "embeddings": embeddings, "embedding_labels": labels}
    return run, extras


def test_the_report_holds_every_figure_of_every_class_and_evaluation(full: Any) -> None:
    run, extras = full
    html, page = page_of(run, **extras)
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    parts = html.split('<details id="evaluation-')[1:]
    assert len(parts) == len(result["evaluations"]) == 5
    for part, e in zip(parts, result["evaluations"], strict=True):
        for c in e["per_class"]:
            figures = (
                f'<td class="n">{c["correct"]} / {c["total"]}</td><td class="n main">{100 * c["accuracy"]:.1f} %</td>'
            )
            assert f'<td class="n">{c["label"]}</td><td>{c["name"]}</td>{figures}' in part
    for text in ("epochs = 100, learning_rate = 0.01", "5-way 1-shot, nearest, inductive, validation classes"):
        assert text in page.text


def test_the_report_says_what_was_run(full: Any) -> None:
    run, extras = full
    _, page = page_of(run, **extras)
    assert "flowers102/baseline" in page.text
    assert "(pretrained: imagenet)" in page.text
    for fact in ("metadataset", "mobilenet_v1", "0123abc", "paddle 3.3.1, ppfsl 0.1.0", "16.2 s"):
        assert fact in page.text
    assert "split: metadataset # <novel> & others\n" in page.text  # the config, escaped in the page
    assert "of that run" not in page.text
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    evaluated = {**result, "checkpoint": {"file": "two/checkpoints/best.safetensors", "weights_sha256": "0"}}
    (run / "result.json").write_text(json.dumps(evaluated), encoding="utf-8")
    _, page = page_of(run, **extras)
    assert "two/checkpoints/best.safetensors; how they were trained says the config.yaml of that run" in page.text
    (run / "result.json").write_text(json.dumps(result), encoding="utf-8")
    assert re.search(r"On 5-way 1-shot tasks of novel classes .* labels \d\d\.\d % ± 0\.6 \(95 % interval\)", page.text)


def test_inductive_and_transductive_rows_stand_in_separate_tables(full: Any) -> None:
    run, extras = full
    html, _ = page_of(run, **extras)
    inductive, transductive = re.findall(r'<table class="results">.*?</table>', section(html, "results"), re.DOTALL)
    assert "soft_kmeans" in transductive
    assert "soft_kmeans" not in inductive
    assert all(name in inductive and name not in transductive for name in ("class_mean", "finetune", "nearest"))
    (row,) = re.findall("<tr>.*finetune.*</tr>", inductive)
    assert "one support set" in row
    assert "±" not in row
    tiles = html[html.index('<div class="tiles">') : html.index("</header>")]
    assert tiles.count('class="tile"') == 3  # inductive on novel classes: neither soft_kmeans nor validation
    assert "transductive" not in tiles


def test_the_report_asks_nothing_of_the_outside(full: Any) -> None:
    run, extras = full
    html, page = page_of(run, **extras)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"base64,[\w+/=]+", "", html))
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png", "data:,"))
    assert "default-src 'none'" in html


def test_names_cannot_bring_in_markup(fake_run: Any, evaluation: Any, pictures: Any) -> None:
    names = [EVIL, "rose", "{{ 7 * 7 }}"]
    run = fake_run([evaluation(names=names, adaptation=EVIL, settings={EVIL: EVIL})])
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    result |= {key: EVIL for key in ("name", "dataset", "split", "backbone", "method", "pretrained", "git")}
    result["evaluations"][0]["per_class"][1]["name"] = "rose\x00\udcff"  # a folder whose name is not UTF-8
    (run / "result.json").write_text(json.dumps(result))
    support = json.loads((run / "support_set.json").read_text(encoding="utf-8"))
    support["support"][0]["file"] = f"{EVIL}.jpg"
    (run / "support_set.json").write_text(json.dumps(support))
    (run / "config.yaml").write_text(f"name: {EVIL}\n</pre>{EVIL}\n")
    labels = [EVIL, "_", "$x$", EVIL, "b", "c"]
    html, page = page_of(run, support_images=pictures(6), embeddings=np.eye(6), embedding_labels=labels)
    assert "<script" not in html
    assert all(tag != "script" for tag, _ in page.tags)
    assert page.text.count(EVIL) >= 15
    assert f"{EVIL}.jpg" in page.text
    assert "rose\ufffd\ufffd" in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_the_support_set_is_shown_with_its_files(full: Any) -> None:
    run, extras = full
    html, page = page_of(run, **extras)
    part = section(html, "support-set")
    pictures = re.findall(r'<img src="data:image/png;base64,([\w+/=]+)" alt="(.*?)"><figcaption>(.*?)<', part)
    support = json.loads((run / "support_set.json").read_text(encoding="utf-8"))
    names = {c["label"]: c["name"] for c in support["classes"]}
    assert [(alt, file) for _, alt, file in pictures] == [(names[s["label"]], s["file"]) for s in support["support"]]
    for (data, _, _), image in zip(pictures, extras["support_images"], strict=True):
        with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
            assert np.array_equal(np.asarray(shown), image)
    assert "8-way 2-shot task: novel classes, seed 0, 56 queries" in page.text


def test_grey_and_large_support_images_become_thumbnails(fake_run: Any, pictures: Any) -> None:
    html, _ = page_of(fake_run(), support_images=pictures(16, size=200, channels=1))
    data = re.findall(r"base64,([\w+/=]+)\" alt", html)
    with Image.open(io.BytesIO(base64.b64decode(data[0]))) as shown:
        assert (shown.size, shown.mode) == ((128, 128), "L")


def test_with_very_many_support_images_the_rest_are_only_named(fake_run: Any, evaluation: Any, pictures: Any) -> None:
    run = fake_run([evaluation(names=[f"class {n}" for n in range(62)])], shot=5)
    html, page = page_of(run, support_images=pictures(310, size=4))
    assert html.count("<img ") == 300
    assert section(html, "support-set").count("<figcaption>") == 310
    assert "The last 10 images are named, but not shown." in page.text


def test_a_run_that_trained_nothing_says_so(fake_run: Any) -> None:
    html, page = page_of(fake_run(trained=False))
    assert "Nothing was trained in this run" in page.text
    assert "<svg" not in section(html, "training")


def test_a_trained_run_shows_its_curves(fake_run: Any) -> None:
    html, page = page_of(fake_run())
    assert "<svg" in section(html, "training")
    assert "1_cross_entropy, validation, 5-way 1-shot" in page.text
    assert "Nothing was trained" not in page.text


def test_a_bare_result_is_enough(tmp_path: Path, evaluation: Any, result: Any) -> None:
    e = evaluation(episodes=1)
    e["confusion"] = []
    (tmp_path / "result.json").write_text(json.dumps(result([e], split=None, pretrained=None, git=None)))
    html, page = page_of(tmp_path)
    assert "±" not in html[html.index("<h1>") : html.index("</table>")]
    assert "(pretrained: none)" in page.text
    assert "on one support set" in page.text
    for absent in ("support-set", "map", "config.yaml, as"):
        assert f'id="{absent}"' not in html
    assert "taken for" not in page.text


def test_the_fixed_support_set_is_the_last_to_be_shown_large(fake_run: Any, evaluation: Any) -> None:
    shown = [evaluation(shot=shot, episodes=episodes) for shot, episodes in ((1, 5), (3, 1), (5, 5), (7, 5), (9, 5))]
    html, page = page_of(fake_run(shown))
    tiles = html[html.index('<div class="tiles">') : html.index("</header>")]
    assert re.findall(r"5-way (\d)-shot", tiles) == ["1", "5", "7", "9"]
    assert "on average over 5 episodes" in page.text


def test_one_drawn_episode_is_no_support_set(fake_run: Any, evaluation: Any) -> None:
    _, page = page_of(fake_run([evaluation(episodes=1, support_set=False)]))
    assert "correctly, on 1 episode;" in page.text
    assert "one support set" not in page.text


def test_the_most_frequent_mistakes_are_listed(fake_run: Any, evaluation: Any) -> None:
    e = evaluation(names=["rose", "lily", "iris"])
    e["confusion"] = [[8, 2, 0], [0, 9, 1], [5, 0, 15]]
    html, _ = page_of(fake_run([e]))
    rows = re.findall(
        r"<tr><td>(\w+)</td><td>(\w+)</td><td class=\"n\">(\d+)</td><td class=\"n\">([\d.]+) %</td>", html
    )
    expected = [("iris", "rose", "5", "25.0"), ("rose", "lily", "2", "20.0"), ("lily", "iris", "1", "10.0")]
    assert rows == expected


def test_hundreds_of_classes_have_numbers_but_no_heat_map(fake_run: Any, evaluation: Any) -> None:
    run = fake_run([evaluation(names=[f"class {n:03}" for n in range(201)])])
    html, page = page_of(run)
    assert "The 201 classes in numbers" in page.text
    assert "class 137" in page.text
    assert "Confusion matrix" not in html
    assert "The most frequent mistakes" in page.text


def test_equal_runs_give_equal_bytes_in_every_process(full: Any) -> None:
    run, extras = full
    first = write_report(run, **extras).read_bytes()
    assert write_report(run, **extras).read_bytes() == first
    alone = write_report(run).read_bytes()
    code = (
        "import sys, pathlib; from ppfsl.reporting.report import write_report; write_report(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(run)], check=True)
    assert (run / "report.html").read_bytes() == alone


def test_a_run_without_a_result_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"result\.json"):
        write_report(tmp_path)


def test_images_and_labels_must_match(fake_run: Any, pictures: Any) -> None:
    run = fake_run()
    with pytest.raises(ValueError, match=r"3 support images, but support_set\.json lists 16"):
        write_report(run, support_images=pictures(3))
    with pytest.raises(ValueError, match="embedding_labels"):
        write_report(run, embeddings=np.eye(3))
    assert not (run / "report.html").exists()
