"""Tables for a terminal, a log and a README."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


class TableContent(NamedTuple):
    """A table without its title; the notes stand below it."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded columns, numbers to the right; it also serves as plain text."""
    widths = [max(len(line[i]) for line in (headers, *rows)) for i in range(len(headers))]
    numeric = [_is_numeric(rows, i) for i in range(len(headers))]
    rule = [("-" * (width - 1) + ":") if right else "-" * width for width, right in zip(widths, numeric, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.rjust(width) if right else cell.ljust(width)
                  for cell, width, right in zip(cells, widths, numeric, strict=True))
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(headers), line(rule), *map(line, rows)])


def show(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """Prints a table with its title above and the notes below.

    In a terminal it fits the width and has colours unless NO_COLOR is set; anywhere else it is unwrapped Markdown.
    """
    console = Console()
    console.print(f"\n{title}", style="bold", markup=False, highlight=False, soft_wrap=True)
    if console.is_terminal:
        table = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
        for i, header in enumerate(headers):
            table.add_column(Text(header), justify="right" if _is_numeric(rows, i) else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    else:
        console.print(markdown(headers, rows), markup=False, highlight=False, soft_wrap=True)
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _is_numeric(rows: Sequence[Sequence[str]], column: int) -> bool:
    return all(row[column][:1].isdigit() or row[column] == "" for row in rows)
