import json
import re

import numpy as np
import pytest
from PIL import Image

from cfaan_jax.errors import InputError
from cfaan_jax.metrics import Score
from cfaan_jax.report.page import pages
from cfaan_jax.runtime.text_tables import TableContent

SITE = {"index.html": "Start <here>"}
HOSTILE = "</script><!-- ]]> & ' \" \u2028 ü 行人"


def score() -> Score:
    one = np.ones(1)
    return Score("mars", one, 1.0, 1.0, one, one, one, np.zeros(1, int), 1, 1, 1)


def write(folder, cell="cell"):
    with pages(folder, SITE, HOSTILE) as site:
        site.page("index.html", table=TableContent(["protocol"], [[cell]], []), score=score(), trained=False)


def test_text_is_escaped(tmp_path):
    write(tmp_path / "report", HOSTILE)
    html = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert "</script>" not in html and "Start &lt;here&gt;" in html
    assert html.count("&lt;/script&gt;&lt;!-- ]]&gt; &amp; &#39; &#34; \u2028 ü 行人") == 3  # title, heading, cell
    assert "default-src 'none'" in html and not re.search(r"https?:", html)


def test_data_is_a_script_that_nothing_in_it_can_end(tmp_path):
    value = {HOSTILE: [HOSTILE, 1.5, None]}
    with pages(tmp_path / "report", SITE, "about") as site:
        assert site.data("names", value) == "names.js"
    text = (tmp_path / "report/names.js").read_text(encoding="ascii")
    assert not set("<>&'") & set(text)
    assert json.loads(text[text.index(" = ") + 3:].rstrip(";\n")) == value


def test_pictures(tmp_path):
    frame = np.full((40, 20, 3), (200, 30, 60), np.uint8)
    with pages(tmp_path / "report", SITE, "about") as site:
        assert site.picture("tracklet-7", frame) == "frames/tracklet-7.jpg"
    stored = np.asarray(Image.open(tmp_path / "report/frames/tracklet-7.jpg"))
    assert stored.shape == frame.shape and np.abs(stored.astype(int) - frame).max() <= 4


def test_pages_take_the_place_of_older_ones_whole(tmp_path):
    with pages(tmp_path / "report", SITE, "about") as site:
        site.data("left-over", [])
    (tmp_path / "report/mine").mkdir()
    (tmp_path / "report/mine/notes.txt").write_text("thoughts")
    write(tmp_path / "report", "newer")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"files.json", "index.html", "mine", "style.css"}
    assert (tmp_path / "report/mine/notes.txt").read_text() == "thoughts"
    assert "newer" in (tmp_path / "report/index.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_what_fails_leaves_the_older_pages(tmp_path):
    write(tmp_path / "report")
    with pytest.raises(RuntimeError), pages(tmp_path / "report", SITE, "about") as site:
        site.data("half", [])
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert "cell" in (tmp_path / "report/index.html").read_text()


def test_a_folder_of_something_else_or_of_other_pages_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    write(tmp_path / "report")
    for folder, titles in ((tmp_path, SITE), (tmp_path / "report", {"review.html": "Review"})):
        with pytest.raises(InputError, match="holds something else than these pages"), pages(folder, titles, "about"):
            pass
    assert (tmp_path / "thesis.tex").read_text() == "years of work" and (tmp_path / "report/index.html").exists()
