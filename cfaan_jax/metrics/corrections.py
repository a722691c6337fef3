"""Corrected identities of test tracklets (paper, section 4.5): `corrections.csv`, or `clean_tracks_test_info.mat`.

The CSV has a header `track_id,pid,second_pid` (more columns may follow) and a line for every tracklet to correct: its
row in `tracks_test_info` (0-based), its true identity (0 = distractor, -1 = junk), and its second identity: the other
one that an ambiguous tracklet may show, otherwise the true one again. The .mat holds `track_test_info` with a row for
every test tracklet: first and last frame, identity, camera, corrected identity, second identity.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfaan_jax.errors import InputError, reason, shortened
from cfaan_jax.metrics.protocols import DISTRACTOR, JUNK
from cfaan_jax.runtime.matlab import read_integers

_COLUMNS = ("track_id", "pid", "second_pid")
_MIN_IDENTITIES_OF_MARKER = 3
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True)
class Corrections:
    """Corrections of M tracklets, int64 [M]; `stored` is the identity that they replace, if the file holds it."""

    source: str
    track_ids: np.ndarray
    pids: np.ndarray
    second: np.ndarray
    stored: np.ndarray | None = None

    def apply(self, track_ids: np.ndarray, pids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Corrected and second identities of all N test tracklets, int64 [N] each, from the stored ones.

        InputError: a correction of an unknown tracklet or of one that had another identity; a shared marker.
        """
        row_of = {track: row for row, track in enumerate(np.asarray(track_ids).tolist())}
        if len(row_of) != len(track_ids):
            raise InputError(f"{self.source}: two test tracklets share a track id, so they cannot be corrected")
        unknown = [track for track in self.track_ids.tolist() if track not in row_of]
        if unknown:
            raise InputError(f"{self.source}: no test tracklet has track_id {shortened(unknown)}; "
                             "it is the row in tracks_test_info, counted from 0")
        rows = np.array([row_of[track] for track in self.track_ids.tolist()], np.int64)
        corrected = np.array(pids, np.int64)
        if self.stored is not None and (corrected[rows] != self.stored).any():
            wrong = self.track_ids[corrected[rows] != self.stored].tolist()
            raise InputError(f"{self.source}: track_id {shortened(wrong)} had another identity than in the records; "
                             "give the file that belongs to this data set")
        corrected[rows] = self.pids
        second = corrected.copy()
        second[rows] = self.second
        refuse_shared_marker(self.pids, self.second, corrected, self.source)
        return corrected, second


def read(path: str | Path) -> Corrections:
    """Reads corrections from a .csv or .mat file (see the module); InputError for wrong content."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a corrections.csv or clean_tracks_test_info.mat")
    corrections = _read_mat(path) if path.suffix == ".mat" else _read_csv(path)
    tracks, counts = np.unique(corrections.track_ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"{path}: track_id {shortened(tracks[counts > 1].tolist())} is corrected more than once")
    return corrections


def _read_csv(path: Path) -> Corrections:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            reader = csv.reader(file, skipinitialspace=True)
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({reason(error)}); save it as one") from None
    header = [name.strip() for name in lines[0][1]] if lines else []
    missing = [name for name in _COLUMNS if header.count(name) != 1]
    if missing:
        raise InputError(f"{path}: the first line must name each of the columns {','.join(_COLUMNS)} once; "
                         f"wrong: {','.join(missing)}")
    columns = [header.index(name) for name in _COLUMNS]
    values = [_whole_numbers(path, number, line, columns) for number, line in lines[1:] if any(map(str.strip, line))]
    return Corrections(str(path), *np.array(values, np.int64).reshape(-1, 3).T)


def _whole_numbers(path: Path, number: int, line: list[str], columns: list[int]) -> list[int]:
    cells = [line[column].strip() if column < len(line) else "" for column in columns]
    if not all(map(_WHOLE_NUMBER.fullmatch, cells)):
        raise InputError(f"{path}, line {number}: {','.join(cells)!r} are not three whole numbers below 10^9")
    track, *pids = map(int, cells)
    if min(pids) < JUNK:
        raise InputError(f"{path}, line {number}: {min(pids)} is not an identity; -1 is junk, 0 a distractor")
    return [track, *pids]


def _read_mat(path: Path) -> Corrections:
    table = read_integers(path, "track_test_info")
    if table.ndim != 2 or table.shape[1] != 6:
        raise InputError(f"{path}: track_test_info is {'x'.join(map(str, table.shape))}; it must have six columns: "
                         "start, end, identity, camera, corrected identity, second identity")
    return Corrections(str(path), np.arange(len(table)), table[:, 4], table[:, 5], stored=table[:, 2])


def refuse_shared_marker(pids: np.ndarray, second: np.ndarray, people: np.ndarray, source: str) -> None:
    """InputError where a number marks "not ambiguous": as a second identity it would make every pair a match.

    An unambiguous tracklet's second identity is its own. Refused are 0 and negative numbers beside another identity;
    and a number that is not an identity but the second one of several people, more often than tracklets repeat theirs.
    `pids` and `second` are int [N] each, `people` all identities of the data set, and `source` is for the message.
    """
    different = second != pids
    markers = [value for value in np.unique(second[different]).tolist()
               if value <= DISTRACTOR or value not in people and _is_common(value, pids, second)]
    if markers:
        count = int((different & (second == markers[0])).sum())
        raise InputError(f"{source}: second identity {markers[0]} of {count} tracklets looks like a marker for "
                         "'not ambiguous', so all would match each other; repeat the tracklet's own identity instead")


def _is_common(value: int, pids: np.ndarray, second: np.ndarray) -> bool:
    rows = second == value
    return len(np.unique(pids[rows])) >= _MIN_IDENTITIES_OF_MARKER and rows.sum() > (second == pids).sum()
