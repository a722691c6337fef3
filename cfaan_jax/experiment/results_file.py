"""results.json of a workdir: a row for each protocol under which weights were scored."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cfaan_jax.errors import InputError, reason
from cfaan_jax.runtime.files import parse_json, write_atomic

FILE = "results.json"
METRICS = ("mAP", "rank1", "rank5", "rank10")  # shares between 0 and 1
RUN = ("model", "aligned", "weights", "reranked", "distance")
KEY = (*RUN, "protocol", "clips", "seed")  # no two rows agree in all of these
_IN_A_WORKDIR = ("weights", "protocol", "clips", "distance", "reranked")  # the same of the rows of one workdir
_OLDER = {"reranked": False, "distance": "cosine"}  # files of before these could be chosen do not say
_CHECKS = (
    (METRICS, lambda value: type(value) in (int, float) and 0 <= value <= 1),  # NaN is not
    (("seed", "gallery_size", "num_valid"), lambda value: type(value) is int and value >= 0),
    (("model", "weights", "protocol", "clips", "distance", "dataset", "note"), lambda value: isinstance(value, str)),
    (("aligned", "reranked"), lambda value: isinstance(value, bool)),
)


def read_rows(path: Path) -> list[dict]:
    """The rows of a results.json; InputError if it is none."""
    try:
        content = parse_json(path.read_bytes())
        if not isinstance(content, list) or not content:
            raise ValueError("not a list of rows")
        rows = [_OLDER | row for row in content]
        for row in rows:
            for names, fits in _CHECKS:
                if wrong := [name for name in names if not fits(row[name])]:
                    raise ValueError(f"{wrong[0]} is {str(row[wrong[0]])[:40]}")
        if len({tuple(row[name] for name in KEY) for row in rows}) < len(rows):
            raise ValueError("a row is there twice")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; evaluate that run first (--mode=evaluate)") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no results of an evaluation ({reason(error)}); evaluate again") from error
    return rows


def rows_of(workdir: str | Path) -> list[dict]:
    """The rows of a workdir, none where it has no results.json yet; InputError for one that is damaged."""
    path = Path(workdir) / FILE
    return read_rows(path) if path.exists() else []


def merge_rows(workdir: str | Path, rows: Sequence[Mapping]) -> None:
    """Adds rows to those of a workdir; each takes the place of an older one of the same weights, protocol, clips,
    distance and ranking."""
    merged = {tuple(row[name] for name in _IN_A_WORKDIR): row for row in (*rows_of(workdir), *rows)}
    write_atomic(Path(workdir) / FILE, json.dumps(list(merged.values()), indent=2) + "\n")
