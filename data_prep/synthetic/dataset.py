"""Pedestrians drawn by code, in MARS's layout, with planted and recorded faults like those of MARS.

`open` draws the set into a folder if it is missing and reads it with the MARS reader. Besides MARS's files it holds

    truth.json        the planted truth: who is drawn in every tracklet, and where in every frame; training never
                      reads it
    corrections.csv   track_id,pid,second_pid of the test tracklets whose true identity differs from the stored one, or
                      that show two people: the corrected labels of section 4.5 of the paper
    settings.json     the settings of the drawing

The same settings give the same bytes on the same machine. Files get their names when they are complete, `truth.json`
last, and a stopped drawing resumes. No picture of a real person is involved.
"""

import json
from dataclasses import asdict
from pathlib import Path

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import UNFINISHED, parse_json, write_atomic
from cfaan_jax.runtime.progress import Progress
from data_prep.datasets import Dataset, mars
from data_prep.flags import check_range
from data_prep.synthetic.cameras import Studio
from data_prep.synthetic.plan import LEAST_IDENTITIES, Cast, Plan, make_plan
from data_prep.synthetic.walks import film

TRUTH, CORRECTIONS, _SETTINGS = "truth.json", "corrections.csv", "settings.json"
_MOST_IDENTITIES = 5000  # names of MARS have four digits for identities and for the distractors, which are more
_VERSION = 1  # of the drawing; increase it when the pictures change


def open(root: Path, seed: int = 0, identities: int = 64) -> Dataset:
    """Draws the set into `root` if it is missing, and opens it.

    Args:
        seed: of the whole drawing.
        identities: labels, half of them for training, the rest for testing.

    Raises:
        InputError: too few or too many identities, or `root` holds other files.
    """
    check_range("identities", identities, LEAST_IDENTITIES, _MOST_IDENTITIES)
    check_range("seed", seed, 0)
    _save_or_check_settings(root, {"version": _VERSION, "seed": seed, "identities": identities})
    if not (root / TRUTH).exists():
        _draw(root, seed, identities)
    return Dataset("synthetic", mars.open(root).tracklets)


def _save_or_check_settings(root: Path, settings: dict) -> None:
    """Saves the settings in a new `root`; InputError for a set with other settings or other files."""
    path, remedy = root / _SETTINGS, "choose another --root or remove this folder"
    if path.exists():
        try:
            stored = parse_json(path.read_text())
        except ValueError as error:
            raise InputError(f"{path}: cannot be read ({error}); {remedy}") from error
        if stored != settings:
            raise InputError(f"{path}: this set was drawn with {stored}, not {settings}; {remedy}")
    elif root.exists() and (not root.is_dir() or any(path.name != _SETTINGS + UNFINISHED for path in root.iterdir())):
        raise InputError(f"{root}: exists and is not a synthetic set; {remedy}")
    else:
        root.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(settings))


def _draw(root: Path, seed: int, identities: int) -> None:
    cast, plans = make_plan(seed, identities)
    studio = Studio(seed)
    truths = []
    with Progress("drawing tracklets", len(plans)) as progress:
        for plan in plans:
            frames, truth = film(studio, cast, plan, seed)
            for path, content in zip(_paths(root, plan), frames, strict=True):
                if not path.exists():
                    write_atomic(path, content, durable=False)
            truths.append(truth)
            progress.advance()
    for part in mars.IMAGE_FOLDERS:
        _write_lists(root / "info", part, [plan for plan in plans if plan.part == part])
    write_atomic(root / CORRECTIONS, _corrections(cast, plans))
    write_atomic(root / TRUTH, json.dumps(_truth(cast, plans, truths), separators=(",", ":")))


def _paths(root: Path, plan: Plan) -> list[Path]:
    folder = root / mars.IMAGE_FOLDERS[plan.part] / plan.stem[:4]
    return [folder / f"{plan.stem}F{frame:03d}.jpg" for frame in range(1, plan.length + 1)]


def _write_lists(info: Path, part: str, plans: list[Plan]) -> None:
    names = [[path.name for path in _paths(info.parent, plan)] for plan in plans]
    files = mars.list_files(part, names, [plan.pid for plan in plans], [plan.camid for plan in plans])
    if part == "test":
        files |= mars.query_file([row for row, plan in enumerate(plans) if plan.query])
    mars.write_info(info, files)


def _true_pids(cast: Cast, plan: Plan) -> tuple[int, int]:
    """Returns the true identity of a tracklet and its second one, which is the same unless it shows two people."""
    if plan.kind not in ("person", "wrong identity", "ambiguous", "duplicate"):
        return plan.pid, plan.pid
    pid = cast.pid_of(plan.person)
    return pid, cast.pid_of(plan.companion) if plan.companion is not None else pid


def _corrections(cast: Cast, plans: list[Plan]) -> str:
    lines = ["track_id,pid,second_pid\n"]
    for row, plan in enumerate(plan for plan in plans if plan.part == "test"):
        pid, second_pid = _true_pids(cast, plan)
        if (pid, second_pid) != (plan.pid, plan.pid):
            lines.append(f"{row},{pid},{second_pid}\n")
    return "".join(lines)


def _truth(cast: Cast, plans: list[Plan], truths: list[dict]) -> dict:
    """Returns the content of `truth.json`; boxes are `(y0, y1, x0, x1)` in pixels of the crop and may leave it."""
    names = {plan.walk: plan.stem for plan in plans if plan.kind != "duplicate"}
    rows = dict.fromkeys(mars.IMAGE_FOLDERS, 0)
    tracklets = {}
    for plan, truth in zip(plans, truths, strict=True):
        pid, second_pid = _true_pids(cast, plan)
        tracklets[plan.stem] = {
            "part": plan.part, "track_id": rows[plan.part], "stored_pid": plan.pid, "pid": pid,
            "second_pid": second_pid, "camid": plan.camid, "kind": plan.kind, "person": plan.person, "box": plan.box,
            "passing": plan.passing, "passer": plan.passer, "companion": plan.companion, "query": plan.query,
            "duplicate_of": names[plan.walk] if plan.kind == "duplicate" else None, **truth}
        rows[plan.part] += 1
    first = {person: pid for pid, person in reversed(cast.person_of.items())}
    return {
        "people": [asdict(person) for person in cast.people], "person_of": cast.person_of, "strangers": cast.strangers,
        "confusable": cast.confusable,
        "second_names": {pid: first[person] for pid, person in cast.person_of.items() if first[person] != pid},
        "tracklets": tracklets}
