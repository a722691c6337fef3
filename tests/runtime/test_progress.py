import io
import re

from rich.console import Console

from cfaan_jax.runtime import progress


def run(monkeypatch, terminal, total=3, start=0):
    shown = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda: Console(file=shown, force_terminal=terminal, width=100))
    with progress.Progress("reading <b>[x]</b>", total, start) as bar:
        for number in range(start, total):
            bar.advance(loss=0.123456 * (number + 1))
    return shown.getvalue()


def test_a_log_gets_plain_lines_with_count_rate_and_figures(monkeypatch):
    text = run(monkeypatch, terminal=False)
    assert text.splitlines()[-1].startswith("reading <b>[x]</b>: 3/3  ")
    assert "loss 0.3704" in text and "\x1b" not in text


def test_a_log_is_not_flooded(monkeypatch):
    assert len(run(monkeypatch, terminal=False, total=1000).splitlines()) < 10


def test_resumed_work_starts_where_it_stopped(monkeypatch):
    assert "1000/1000" in run(monkeypatch, terminal=False, total=1000, start=990)


def test_a_pause_counts_neither_as_time_nor_as_an_end(monkeypatch):
    now, shown = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "Console", lambda: Console(file=shown, force_terminal=False, width=100))
    with progress.Progress("training", 4) as bar:
        for _ in range(2):
            now[0] += 10
            bar.advance()
        with bar.paused():
            now[0] += 1000
        for _ in range(2):
            now[0] += 10
            bar.advance()
    assert [line.split()[1:] for line in shown.getvalue().splitlines()] == [
        ["2/4", "0.1/s"], ["3/4", "0.1/s"], ["4/4", "0.1/s"]]


def test_a_terminal_gets_a_bar_in_colours_unless_there_are_to_be_none(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for no_color in ("", "1"):
        monkeypatch.setenv("NO_COLOR", no_color)
        text = run(monkeypatch, terminal=True)
        assert "3/3" in text and bool(re.search("\x1b\\[[0-9;]*m", text)) != bool(no_color)
