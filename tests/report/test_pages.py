"""The report of an evaluation in a real browser, opened from disk."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from selenium.webdriver import ActionChains, Keys

from cfaan_jax import models
from cfaan_jax.data.clips import test_clips
from cfaan_jax.data.records import RecordSet
from cfaan_jax.evaluate.results import result_rows, score_table
from cfaan_jax.metrics import protocols
from cfaan_jax.metrics.search import About, Search
from cfaan_jax.report import attention, evaluation
from cfaan_jax.report import frames as pictures
from cfaan_jax.report.frames import read_stored
from tests import tiny_records
from tests.opened_page import open_page

pytestmark = pytest.mark.slow

HOSTILE = ("<script>document.title = 'broken'</script>", "\"><img src=x onerror=\"document.title='broken'\">",
           "</script> 'quoted' & 行人 ü", "x" * 300)
T, SIZE = 2, (64, 32)
QUERY = [(3, 1), (3, 2), (5, 1), (7, 1)]  # persons and cameras
GALLERY = [(3, 3), (5, 3), (7, 3), (0, 3), (-1, 3), (3, 1), (3, 2)]


def record_set(directory: Path, aligned: bool) -> Path:
    """Queries with hostile names; raw frames have another size, and their order is the other way round."""
    rng, tracklets = np.random.default_rng(0), []
    for row, (pid, camid) in enumerate([*QUERY, *GALLERY]):
        frames = [tiny_records.frame(rng, pid + 10, SIZE if aligned else (96, 48)) for _ in range(4)]
        name, split = (HOSTILE[row], "query") if row < len(QUERY) else (f"{HOSTILE[row % 4]}{row}", "gallery")
        tracklets.append(tiny_records.tracklet(
            name, split, row, pid, camid, frames, rectangles=np.tile([8, 56, 4, 32], (4, 1)),
            boxes=np.tile([10, 90, 5, 45], (4, 1)), actions=("linked",) * 4,
            sources=tuple(f"{name}/{k if aligned else 3 - k}" for k in range(4))))
    return tiny_records.write(directory, tracklets, dataset=HOSTILE[0], aligned=aligned)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> evaluation.Evaluation:
    folder = tmp_path_factory.mktemp("records")
    aligned, raw = record_set(folder / "aligned", True), record_set(folder / "raw", False)
    splits = [RecordSet.open(aligned, split) for split in ("query", "gallery")]
    features = np.random.default_rng(1).standard_normal((11, 8)).astype(np.float32)
    search = Search.of_splits(features, *splits, About(HOSTILE[0], HOSTILE[2], True, "cfaan", 0, "last", "test"))
    config = ConfigDict({
        "model": {"name": "cfaan", "order": "hwt"},
        "data": {"records": str(aligned), "clip_length": T, "image_size": SIZE},
        "eval": {"corrections": "", "report_lists": 100, "raw_records": str(raw), "attention_block": 0}})
    model = models.create("cfaan", num_classes=2, clip_length=T, image_size=SIZE, width=8, depths=(1, 1, 1, 1),
                          scales=2, heads=2)
    scores = search.score(["mars", "mars_revised"])
    return evaluation.Evaluation(search, scores, score_table(result_rows(search, scores, None)), model, config)


@pytest.fixture(scope="module")
def report(tmp_path_factory, evaluated) -> Path:
    return evaluation.write(evaluated, tmp_path_factory.mktemp("workdir")).parent


class Browser:
    """Chromium with short words for what the tests ask."""

    def __init__(self, driver, folder: Path):
        self.driver, self.folder = driver, folder

    def open(self, page: str) -> None:
        open_page(self.driver, self.folder / page)

    def all(self, selector: str) -> list:
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """What stands there, hidden or not."""
        return [" ".join(element.get_attribute("textContent").split()) for element in self.all(selector)]

    def shown(self, selector: str) -> list:
        return [element for element in self.all(selector) if element.is_displayed()]

    def choose(self, selector: str, value: str) -> None:
        self.all(f"{selector} option[value='{value}']")[0].click()

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)


@pytest.fixture
def browser(chromium, report):
    """Checks at the end that nothing went wrong and nothing was asked of anybody."""
    chromium.get_log("browser"), chromium.get_log("performance")
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False})
    yield Browser(chromium, report)
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [message["params"]["request"]["url"] for message in messages
             if message["method"] == "Network.requestWillBeSent"]
    assert asked and [url for url in asked if not url.startswith(report.as_uri())] == []
    assert chromium.get_log("browser") == []
    assert HOSTILE[0] in chromium.title and "broken" != chromium.title


def test_the_scores_are_those_that_are_printed(browser, evaluated):
    browser.open("index.html")
    rows = [[cell.text for cell in row.find_elements("css selector", "td")] for row in browser.all("#scores tbody tr")]
    assert rows == [list(row) for row in evaluated.table.rows]
    assert [row[0] for row in rows] == ["mars", "mars_revised"]
    assert browser.texts("#scores th") == list(evaluated.table.headers)
    assert [picture.get_attribute("alt") for picture in browser.all(".chart img")] == [
        "CMC curves.", "Average precision.", "Pairs of cameras."]
    assert all(browser.run("return arguments[0].naturalWidth > 100", picture) for picture in browser.all(".chart img"))
    for link in browser.all("main a, nav a"):
        assert Path(browser.folder, link.get_attribute("href").rpartition("/")[2]).is_file()


def test_ranked_lists(browser, evaluated):
    browser.open("ranked.html")
    search, score = evaluated.search, evaluated.score
    rising = score.valid[np.argsort(score.ap, kind="stable")]
    assert browser.texts(".list h3") == [" ".join(str(search.names[query]).split()) for query in rising]
    [answers] = search.nearest([int(rising[0])], protocols.get("mars"))
    cards = browser.all(".list")[0].find_elements("css selector", ".card:not(.query)")
    for card, answer in zip(cards, answers, strict=True):
        sign = {"right": "✓", "wrong": "✗", "ignored": "–"}[answer.kind]
        label, _, distance = card.find_element("css selector", "figcaption").text.split("\n")
        assert label == f"{sign} {answer.kind}" and answer.kind in card.get_attribute("class")
        assert float(distance) == pytest.approx(1 + answer.distance, abs=1e-3)
        assert card.get_attribute("title") == search.names[answer.row]
    kinds = {kind: browser.all(f".card.{kind}")[0].value_of_css_property("border-top-style")
             for kind in ("right", "wrong", "ignored")}
    assert kinds == {"right": "solid", "wrong": "dashed", "ignored": "dotted"}
    assert "All valid queries are listed" in browser.texts("main .note")[0]


def test_a_choice_of_queries_says_that_it_is_one(tmp_path, evaluated):
    config = evaluated.config.copy_and_resolve_references()
    config.model.name, config.eval.report_lists = "c2d", 3
    folder = evaluation.write(replace(evaluated, config=config), tmp_path).parent
    html = (folder / "ranked.html").read_text(encoding="utf-8")
    assert html.count('<section class="list"') == 3
    assert "Only 3 of the 4 valid queries are listed: the 2 with the lowest" in " ".join(html.split())
    assert not (folder / "attention.js").exists() and "<canvas>" not in (folder / "frames.html").read_text()


def test_thumbnails_are_loaded_when_they_come_into_view(browser):
    browser.open("ranked.html")
    for picture in browser.all(".card img"):
        assert picture.get_attribute("loading") == "lazy"
        browser.run("arguments[0].scrollIntoView()", picture)
        browser.run("return arguments[0].decode()", picture)
        assert browser.run("return arguments[0].naturalWidth", picture) == 3 * pictures._WIDTH
    one = browser.all(".card:not(.query) img")[0]
    assert one.size["width"] == 72
    browser.all("#frames")[0].click()
    assert one.size["width"] == 3 * 72


def test_filters(browser, evaluated):
    browser.open("ranked.html")
    assert browser.texts("#pid option") == ["all", "3", "5", "7"]
    assert browser.texts("#camid option") == ["all", "1", "2"]
    assert len(browser.shown(".list")) == 4 and browser.texts("#count") == ["4 of 4 queries shown"]
    for pid, camid, expected in (("3", "", 2), ("3", "2", 1), ("5", "2", 0), ("", "1", 3), ("", "", 4)):
        browser.choose("#pid", pid)
        browser.choose("#camid", camid)
        shown = browser.shown(".list")
        assert len(shown) == expected and browser.texts("#count") == [f"{expected} of 4 queries shown"]
        assert all(pid in ("", each.get_attribute("data-pid")) for each in shown)
        assert all(camid in ("", each.get_attribute("data-camid")) for each in shown)


@pytest.mark.parametrize("page", ["index.html", "ranked.html", "frames.html"])
def test_hostile_names_are_text_and_break_no_page(browser, page):
    browser.open(page)
    assert HOSTILE[2] in browser.texts(".about")[0] and HOSTILE[0] in browser.texts(".about")[0]
    assert not [each for each in browser.all("script") if not each.get_attribute("src").startswith("file:")]
    assert browser.run("return [...document.images].every(image => !image.hasAttribute('onerror'))")
    if page != "index.html":
        assert sorted(browser.texts("h3")) == sorted(" ".join(name.split()) for name in HOSTILE)
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser, scheme):
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.open("ranked.html")
    paper = browser.all("body")[0].value_of_css_property("background-color")
    assert (luminance(paper) > 0.5) == (scheme == "light")
    for selector in ("h1", ".about", "nav a", ".mark.right", ".mark.wrong", ".mark.ignored", ".who"):
        ink = browser.all(selector)[0].value_of_css_property("color")
        lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, selector  # WCAG 2.1, level AA


def luminance(colour: str) -> float:
    """Relative luminance of "rgba(r, g, b, a)" after WCAG 2.1."""
    channels = np.array([float(part) for part in colour[colour.index("(") + 1:-1].split(",")[:3]]) / 255
    return float(np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
                 @ [0.2126, 0.7152, 0.0722])


def test_masks_and_the_frames_before_alignment(browser, evaluated):
    browser.open("frames.html")
    figures = browser.all(".example")[0].find_elements("css selector", ".frame")
    assert len(figures) == T
    clip = test_clips(4, T, "test")[0]
    row = int(browser.all(".example")[0].get_attribute("id").removeprefix("query-"))
    raw = read_stored(RecordSet.open(evaluated.config.eval.raw_records, "query"), row, range(4))
    for k, figure in zip(clip, figures, strict=True):
        assert figure.find_element("css selector", ".who").text == f"frame {k + 1}: linked"
        assert figure.find_element("css selector", ".padding").get_attribute("d").split() == [
            "M0", "0h32v64H0zM4", "8h28v48h-28z"]
        cut = figure.find_element("css selector", ".cut")
        assert [cut.get_attribute(name) for name in ("x", "y", "width", "height")] == ["5", "10", "40", "80"]
        _, beside = figure.find_elements("css selector", "img")
        shown = np.asarray(Image.open(browser.folder / beside.get_dom_attribute("src"))).astype(float)
        assert np.argmin([np.abs(shown - frame).mean() for frame in raw]) == 3 - k
    browser.all("#padding")[0].click()
    assert browser.shown(".padding") == []


@pytest.fixture(scope="module")
def maps(evaluated) -> list[dict]:
    """Attention of the first example by scale: `[T, rows, columns, length]` by axis."""
    query = RecordSet.open(evaluated.config.data.records, "query")
    worst = int(evaluated.score.valid[np.argsort(evaluated.score.ap, kind="stable")[0]])
    return attention.clip_attention(evaluated.model, 0, [(query, worst)], [test_clips(4, T, "test")[0]], SIZE)[0]


def together(maps: dict, t: int, y: int, x: int) -> dict[str, np.ndarray]:
    """What a point attends to, `[T, rows, columns]`, by what is chosen in the page."""
    height, width, time = (maps[axis] for axis in "hwt")
    frames, rows, columns = height.shape[:3]
    one = {name: np.zeros((frames, rows, columns)) for name in "hwt"}
    one["h"][t, :, x], one["w"][t, y], one["t"][:, y, x] = height[t, y, x], width[t, y, x], time[t, y, x]
    return one | {"together": np.einsum("i,ik,ikj->ijk", time[t, y, x], width[:, y, x], height[:, y])}


@pytest.mark.parametrize("scale", [0, 1])
def test_a_click_shows_the_attention_of_that_point(browser, maps, scale):
    browser.open("frames.html")
    browser.choose("#scale", str(scale))
    _, rows, columns = maps[scale]["h"].shape[:3]
    t, y, x = 1, rows - 1, 0
    click(browser, t, (y + 0.5) / rows, (x + 0.5) / columns)
    for axis, expected in together(maps[scale], t, y, x).items():
        browser.choose("#axis", axis)
        [text] = browser.texts(".example:first-of-type output")
        assert text.startswith(f"frame 2 of 2, row {y + 1} of {rows}, column {x + 1} of {columns}: largest share ")
        assert float(text.split()[-2]) == pytest.approx(100 * expected.max(), abs=0.5), axis
        shares = [float(each.split()[0]) for each in browser.texts(".example:first-of-type .share")]
        np.testing.assert_allclose(shares, 100 * expected.sum((1, 2)), atol=0.5)
        for frame in range(T):
            np.testing.assert_allclose(opacity(browser, frame, rows, columns),
                                       0.85 * expected[frame] / expected.max(), atol=0.02)


def click(browser: Browser, t: int, y: float, x: float) -> None:
    picture = browser.all(".example:first-of-type .picture[tabindex]")[t]
    browser.run("arguments[0].scrollIntoView({block: 'center'})", picture)
    box = picture.rect
    ActionChains(browser.driver).move_to_element_with_offset(
        picture, round((x - 0.5) * box["width"]), round((y - 0.5) * box["height"])).click().perform()


def opacity(browser: Browser, t: int, rows: int, columns: int) -> np.ndarray:
    """How much of each cell of a frame is covered, `[rows, columns]`, in the middle of the cell."""
    canvas = browser.all(".example:first-of-type canvas")[t]
    png = browser.run("return arguments[0].toDataURL()", canvas).partition(",")[2]
    alpha = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))[..., 3]
    cell = alpha.shape[1] // columns
    assert alpha.shape == (rows * cell, columns * cell)
    return alpha[cell // 2::cell, cell // 2::cell] / 255


def test_arrow_keys_move_the_point(browser):
    browser.open("frames.html")
    click(browser, 0, 0.01, 0.01)
    ActionChains(browser.driver).send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT).perform()
    assert browser.texts(".example:first-of-type output")[0].startswith("frame 1 of 2, row 3 of 8, column 2 of 4:")


def test_the_policy_lets_nothing_out(chromium, report):
    chromium.get((report / "index.html").as_uri())
    chromium.get_log("browser")
    chromium.execute_script("document.body.append(Object.assign(new Image(), {src: 'https://192.0.2.1/seen.png'}))")
    assert any("Content Security Policy" in entry["message"] for entry in chromium.get_log("browser"))


def test_the_bytes_in_a_page_are_the_attention(maps):
    for packed, scale in zip(attention.pack(maps), maps, strict=True):
        for axis in "hwt":
            stored = np.frombuffer(base64.b64decode(packed[axis]), np.uint8).reshape(scale[axis].shape).astype(float)
            assert np.abs(stored / stored.sum(-1, keepdims=True) - scale[axis]).max() <= 0.005 * scale[axis].max()
            assert (packed["rows"], packed["columns"]) == scale[axis].shape[1:3]
