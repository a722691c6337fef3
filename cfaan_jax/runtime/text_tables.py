"""Tables that read well in a terminal, in a log and in a README."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


class TableContent(NamedTuple):
    """A table without its title; `notes` go below it."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded columns, figures to the right; it is its own plain-text form."""
    widths = [max(len(line[i]) for line in (headers, *rows)) for i in range(len(headers))]
    figures = [_is_figure(rows, i) for i in range(len(headers))]
    rule = [("-" * (width - 1) + ":") if right else "-" * width for width, right in zip(widths, figures, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.rjust(width) if right else cell.ljust(width)
                  for cell, width, right in zip(cells, widths, figures, strict=True))
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(headers), line(rule), *map(line, rows)])


def show(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """Prints a table, its title above and the notes below.

    A terminal gets it fitted to its width, in colour unless NO_COLOR is set; anything else gets unbroken Markdown.
    """
    console = Console()
    console.print(f"\n{title}", style="bold", markup=False, highlight=False, soft_wrap=True)
    if console.is_terminal:
        table = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
        for i, header in enumerate(headers):
            table.add_column(Text(header), justify="right" if _is_figure(rows, i) else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    else:
        console.print(markdown(headers, rows), markup=False, highlight=False, soft_wrap=True)
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _is_figure(rows: Sequence[Sequence[str]], column: int) -> bool:
    return all(row[column][:1].isdigit() or row[column] == "" for row in rows)
