"""The figures of the paper's Tables 1 to 4, and what this project runs beside them.

paper.csv holds the figures as printed, each at its table, row and column; an empty value is a dash of the paper.
"""

import csv
from pathlib import Path
from typing import NamedTuple

TITLES = {
    1: "systems on MARS, on the original tracklets and with Re-Detect and Link (DL)",
    2: "Re-Detect and Link (DL), and the attention blocks",
    3: "published methods",
    4: "systems with Re-Detect and Link (DL), without and with the new evaluation (N.E.)",
}
TABLES: dict[int, dict[str, dict[str, str]]] = {number: {} for number in TITLES}  # value by row and column
with Path(__file__).with_name("paper.csv").open(encoding="utf-8", newline="") as _file:
    for _line in csv.DictReader(_file):
        TABLES[int(_line["table"])].setdefault(_line["row"], {})[_line["column"]] = _line["value"]

COST = "GFLOPs"  # the one column without runs
_SYSTEMS = {"FT-WFT": "ftwft", "P3D-C": "p3d", "C2D": "c2d", "Non-Local": "nonlocal", "TCLNet": "tclnet",
            "AP3D": "ap3d", "CF-AAN": "cfaan", "DL+CF-AAN": "cfaan"}  # by the first word of rows of Tables 1, 3 and 4
_BLOCKS = ("c2d", "c2d", "nonlocal", "axial_s1_none_1head", "axial_s1_none", "axial_s1_sinusoidal",
           "axial_s1_relative", "axial_s2", "cfaan")  # the rows of Table 2
# The variant of a row; this project does not have the methods of the other rows, all of Table 3.
VARIANT_OF = {row: _SYSTEMS[row.split()[0]] for number in (1, 3, 4) for row in TABLES[number]
              if row.split()[0] in _SYSTEMS} | dict(zip(TABLES[2], _BLOCKS, strict=True))
# Its GFLOPs are multiply-accumulates: the whole of C2D, and what others add to it by Table 2, or else by Table 4.
PUBLISHED_TOTAL = float(TABLES[4]["C2D [10]"][COST])
PUBLISHED_ADDED = {VARIANT_OF[row]: round(float(figures[COST]) - PUBLISHED_TOTAL, 3)
                   for row, figures in TABLES[4].items() if VARIANT_OF[row] != "c2d"}
PUBLISHED_ADDED |= {VARIANT_OF[row]: float(figures[COST].removeprefix("CB+"))
                    for row, figures in TABLES[2].items() if figures[COST].startswith("CB+")}


class Cell(NamedTuple):
    """What is trained and measured beside one figure."""

    dataset: str
    variant: str
    aligned: bool
    metric: str
    protocol: str
    protocols: tuple[str, ...]  # a run counts if it has all of them: a row compares the same runs


def cells_of(number: int) -> dict[tuple[str, str], Cell]:
    """What is run for a table, by row and column: their words say it. Dashes and methods not here have no run."""
    cells = {}
    for row, figures in TABLES[number].items():
        for column, value in figures.items():
            if value and row in VARIANT_OF and column != COST:
                dataset = "dukev" if column.startswith("DukeV") else "mars"
                aligned = any(words in f"{row} {column}" for words in ("with DL", "w/ DL", "DL+"))
                metric = "mAP" if "mAP" in column else "rank1"
                protocols = ("mars", "mars_revised") if number == 4 else (dataset,)
                cells[row, column] = Cell(dataset, VARIANT_OF[row], aligned, metric,
                                          protocols["w/ N.E." in column], protocols)
    return cells
