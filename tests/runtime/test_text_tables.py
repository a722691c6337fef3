import pytest
from rich.console import Console

from cfaan_jax.runtime import text_tables

HEADERS = ["protocol", "mAP", "gallery"]
ROWS = [["mars", "45.1", "9,330"], ["cfaan_released", "7.0 ± 0.2", "6,082"]]


def test_markdown_is_padded_and_figures_stand_right():
    assert text_tables.markdown(HEADERS, ROWS).split("\n") == [
        "| protocol       |       mAP | gallery |",
        "| -------------- | --------: | ------: |",
        "| mars           |      45.1 |   9,330 |",
        "| cfaan_released | 7.0 ± 0.2 |   6,082 |"]


def shown(capsys, monkeypatch, *table, width=100, **console):
    monkeypatch.setattr(text_tables, "Console", lambda: Console(width=width, **console))
    text_tables.show(*table or ("a [title]", HEADERS, ROWS, ["note [1]"]))
    return capsys.readouterr().out


def test_a_log_gets_plain_text(capsys, monkeypatch):
    text = shown(capsys, monkeypatch, force_terminal=False)
    assert text == f"\na [title]\n{text_tables.markdown(HEADERS, ROWS)}\nnote [1]\n"


def test_a_terminal_gets_a_table_in_colour(capsys, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = shown(capsys, monkeypatch, force_terminal=True, color_system="standard")
    assert "\x1b[" in text and "45.1" in text and "a [title]" in text and "note [1]" in text
    assert text_tables.markdown(HEADERS, ROWS) not in text


def test_long_lines_are_not_broken_in_a_log(capsys, monkeypatch):
    text = shown(capsys, monkeypatch, "title", ["name"], [["x" * 100]], ["word " * 30], width=40, force_terminal=False)
    assert [len(line) for line in text.split("\n")] == [0, 5, 104, 104, 104, 150, 0]


@pytest.mark.parametrize("hostile", ["[red]x[/red]", "[/nothing]"])
def test_markup_in_a_cell_is_text(capsys, monkeypatch, hostile):
    table = (hostile, [hostile], [[hostile]], [hostile])
    assert shown(capsys, monkeypatch, *table, force_terminal=True, no_color=True).count(hostile) == 4
