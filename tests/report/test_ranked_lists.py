import numpy as np
import pytest
from PIL import Image

from cfaan_jax.report.ranked_lists import BORDERS, Entry, RankedList, draw


def entry(colour, kind, size=(64, 32)):
    return Entry(np.full((*size, 3), colour, np.uint8), ("id 7  cam 2", "d 0.123"), kind)


def colours(path):
    """How many pixels a picture has of each colour."""
    return {colour: count for count, colour in Image.open(path).convert("RGB").getcolors(256 ** 3)}


@pytest.fixture
def picture(tmp_path):
    lists = [RankedList("first", [entry((0, 0, 250), "query")] * 2,
                        [entry((250, 0, 250), "right"), entry((250, 250, 0), "wrong")]),
             RankedList("second", [entry((0, 0, 250), "query")], [entry((0, 250, 250), "ignored")])]
    path = tmp_path / "report" / "lists.png"
    draw(lists, path, "what the figures belong to\nsecond line")
    return path


def test_every_kind_has_its_border(picture):
    counts = colours(picture)
    frame_of_one = 168 * 88 - 160 * 80  # pixels of one border
    for kind, count in {"query": 3, "right": 1, "wrong": 1, "ignored": 1}.items():
        # The legend has 13 x 13 more, and single pixels of the letters' edges may have the same grey.
        assert counts[BORDERS[kind]] == pytest.approx(count * frame_of_one + 13 * 13, abs=100), kind


def test_frames_fill_their_cells_with_their_aspect_ratio(picture):
    counts = colours(picture)
    assert counts[(0, 0, 250)] == 3 * 160 * 80
    assert counts[(250, 0, 250)] == counts[(250, 250, 0)] == counts[(0, 250, 250)] == 160 * 80


def test_a_wide_frame_is_fitted(tmp_path):
    draw([RankedList("wide", [entry((9, 9, 250), "query", (40, 80))], [entry((250, 9, 9), "right", (40, 80))])],
         tmp_path / "wide.png", "title")
    assert colours(tmp_path / "wide.png")[(9, 9, 250)] == 40 * 80


def test_a_long_title_fits(tmp_path):
    lists = [RankedList("one", [entry((0, 0, 250), "query")], [entry((250, 0, 250), "right")])]
    draw(lists, tmp_path / "short.png", "t")
    draw(lists, tmp_path / "long.png", "t" * 200)
    assert Image.open(tmp_path / "long.png").width > Image.open(tmp_path / "short.png").width + 500
