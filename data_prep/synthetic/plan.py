"""The plan of the drawing: who walks in which camera, with which label, and which faults are planted."""

from dataclasses import dataclass, field, replace

import numpy as np

from data_prep.synthetic.cameras import CAMERAS
from data_prep.synthetic.people import Person, draw_people

LEAST_IDENTITIES = 8
_MOST_REPEATED = {"train": 3, "test": 2}  # tracklets of an identity besides one per camera
_LENGTHS = (8, 40)
_MEDIAN_LENGTH, _LENGTH_SPREAD = 16, 0.48
# Shares of the tracklets of people; `walks.window` explains the boxes.
BOXES = {"tight": 0.34, "loose": 0.20, "drifting": 0.16, "cut left": 0.10, "cut right": 0.10, "cut bottom": 0.10}
PASSERS = {"none": 0.66, "in front": 0.20, "behind": 0.14}
DISTRACTORS = {"duplicate": 0.40, "stranger": 0.35, "background": 0.25}
_WRONG, _AMBIGUOUS = 0.03, 0.035             # shares of the tracklets of people
_DISTRACTORS_AN_IDENTITY, _JUNK_AN_IDENTITY = 1.25, 0.3
_IDENTITIES_A_PAIR, _IDENTITIES_AN_ALIAS = 8, 16
_QUERIES_AN_IDENTITY = 2
_OTHER_WALKS = 1_000_000  # first number of the walks without an identity


@dataclass(frozen=True)
class Plan:
    """One tracklet to draw.

    Attributes:
        part: `train` or `test`. pid, camid: the stored label. number: of the tracklet among those of its `pid`.
        kind: `person`, `wrong identity`, `ambiguous`, `duplicate`, `stranger`, `background` or `junk`.
        person, companion, passer: indices of people; the companion stays, the passer crosses, `passing` says where.
        box: one of `BOXES`, or `junk`.
        walk: seed of the scene; a duplicate shares it with its original.
        query: whether it is a query.
    """

    part: str
    pid: int
    camid: int
    length: int
    kind: str
    person: int | None
    walk: int
    box: str = "tight"
    passing: str = "none"
    passer: int | None = None
    companion: int | None = None
    number: int = 0
    query: bool = False

    @property
    def stem(self) -> str:
        """The start of its frames' names, as in MARS."""
        return f"{'00-1' if self.pid < 0 else f'{self.pid:04d}'}C{self.camid}T{self.number:04d}"


@dataclass(frozen=True)
class Cast:
    """The people of a set.

    Attributes:
        people: all of them. person_of: index of the person by identity; two identities may share a person.
        strangers: indices of people without an identity.
        confusable: pairs as returned by `people.draw_people`.
    """

    people: list[Person] = field(default_factory=list)
    person_of: dict[int, int] = field(default_factory=dict)
    strangers: list[int] = field(default_factory=list)
    confusable: list[dict] = field(default_factory=list)

    def pid_of(self, person: int) -> int:
        """Returns the first identity of a person, which is the true one of two."""
        return next(pid for pid, index in self.person_of.items() if index == person)


def make_plan(seed: int, identities: int) -> tuple[Cast, list[Plan]]:
    """Returns the people and the tracklets, first those for training, in the order of MARS's lists."""
    rng = np.random.default_rng([seed, 0])
    cast = Cast()
    in_training = identities // 2
    pids = {"train": range(1, in_training + 1), "test": range(in_training + 1, identities + 1)}
    for part_pids in pids.values():
        _add_people(rng, cast, list(part_pids))
    strangers, _ = draw_people(rng, max(4, identities // 5), 0)
    cast.strangers.extend(range(len(cast.people), len(cast.people) + len(strangers)))
    cast.people.extend(strangers)
    plans = []
    for part, part_pids in pids.items():
        walks = _walks_of_people(rng, cast, part, part_pids, first_walk=len(plans))
        if part == "test":
            _choose_queries(rng, walks)
            walks += _distractors(rng, cast, walks, part_pids) + _junk(rng, cast, part_pids)
        plans += _numbered(walks)
    return cast, plans


def _add_people(rng: np.random.Generator, cast: Cast, pids: list[int]) -> None:
    """Draws people for the identities of one part; a few people have two identities."""
    aliases = max(1, len(pids) // _IDENTITIES_AN_ALIAS)
    first = len(cast.people)
    people, pairs = draw_people(rng, len(pids) - aliases, max(1, len(pids) // _IDENTITIES_A_PAIR))
    cast.people.extend(people)
    in_pairs = {index for pair in pairs for index in pair["people"]}
    alone = [index for index in range(len(people)) if index not in in_pairs]
    shared = rng.choice(alone, aliases, replace=False)
    order = [int(index) for index in [*rng.permutation(len(people)), *shared]]
    cast.person_of.update({pid: first + index for pid, index in zip(pids, order, strict=True)})
    cast.confusable.extend({**pair, "people": [first + index for index in pair["people"]]} for pair in pairs)


def _by_shares(rng: np.random.Generator, count: int, shares: dict[str, float]) -> list[str]:
    """Returns `count` names in random order, in proportion to their shares, and every name if there is room."""
    steps = np.cumsum(list(shares.values()))
    points = (np.arange(count) + 0.5) / count * steps[-1]
    names = [list(shares)[int(index)] for index in np.searchsorted(steps, points)]
    missing = [name for name in shares if name not in names]
    names[:len(missing)] = missing[:count]
    return [names[index] for index in rng.permutation(count)]


def _lengths(rng: np.random.Generator, count: int) -> list[int]:
    drawn = _MEDIAN_LENGTH * np.exp(rng.normal(0, _LENGTH_SPREAD, count))
    return np.clip(np.round(drawn), *_LENGTHS).astype(int).tolist()


def _walks_of_people(rng: np.random.Generator, cast: Cast, part: str, pids: range, first_walk: int) -> list[Plan]:
    """Plans the tracklets with an identity of one part: every identity in every camera, then the faults."""
    labels = []
    for pid in pids:
        cameras = [*range(len(CAMERAS)), *rng.integers(0, len(CAMERAS), rng.integers(0, _MOST_REPEATED[part] + 1))]
        labels += [(pid, int(camera) + 1) for camera in sorted(cameras)]
    count = len(labels)
    lengths, boxes, passing = _lengths(rng, count), _by_shares(rng, count, BOXES), _by_shares(rng, count, PASSERS)
    around = [*{cast.person_of[pid] for pid in pids}, *cast.strangers]
    plans = []
    for index, (pid, camid) in enumerate(labels):
        person = cast.person_of[pid]
        others = [other for other in around if other != person]
        plans.append(Plan(
            part, pid, camid, lengths[index], "person", person, first_walk + index, boxes[index], passing[index],
            passer=int(rng.choice(others)) if passing[index] != "none" else None))
    wrong, ambiguous = (max(1, round(share * count)) for share in (_WRONG, _AMBIGUOUS))
    faulty = rng.choice(count, wrong + ambiguous, replace=False)
    others = rng.permutation(pids).tolist()
    for position, index in enumerate(faulty):
        other = next(pid for pid in others if cast.person_of[pid] != plans[index].person)
        others.remove(other)  # nobody is the other person twice
        fault = {"kind": "wrong identity", "person": cast.person_of[other]} if position < wrong else {
            "kind": "ambiguous", "companion": cast.person_of[other]}
        plans[index] = replace(plans[index], passing="none", passer=None, **fault)
    return plans


def _choose_queries(rng: np.random.Generator, plans: list[Plan]) -> None:
    """Makes one tracklet in each of a few cameras a query, in place, for every identity."""
    for pid in dict.fromkeys(plan.pid for plan in plans):
        for camid in rng.choice(len(CAMERAS), _QUERIES_AN_IDENTITY, replace=False) + 1:
            index = next(index for index, plan in enumerate(plans) if (plan.pid, plan.camid) == (pid, camid))
            plans[index] = replace(plans[index], query=True)


def _distractors(rng: np.random.Generator, cast: Cast, real: list[Plan], pids: range) -> list[Plan]:
    """Plans faults of a detector and a tracker: second boxes of people, people without identity, no people."""
    count = max(4, round(_DISTRACTORS_AN_IDENTITY * len(pids)))
    kinds, lengths = _by_shares(rng, count, DISTRACTORS), _lengths(rng, count)
    originals = iter(rng.permutation([index for index, plan in enumerate(real) if plan.kind == "person"]))
    boxes = _by_shares(rng, count, BOXES)
    plans = []
    for index, kind in enumerate(kinds):
        if kind == "duplicate":
            plans.append(replace(real[next(originals)], pid=0, kind=kind, box=boxes[index], query=False))
        else:
            person = int(rng.choice(cast.strangers)) if kind == "stranger" else None
            plans.append(Plan("test", 0, int(rng.integers(len(CAMERAS))) + 1, lengths[index], kind, person,
                              _OTHER_WALKS + index, boxes[index] if kind == "stranger" else "tight"))
    return plans


def _junk(rng: np.random.Generator, cast: Cast, pids: range) -> list[Plan]:
    """Plans boxes that show too little of a person to be useful."""
    count = max(2, round(_JUNK_AN_IDENTITY * len(pids)))
    return [Plan("test", -1, int(rng.integers(len(CAMERAS))) + 1, length, "junk", cast.person_of[int(rng.choice(pids))],
                 _OTHER_WALKS + 1000 + index, "junk") for index, length in enumerate(_lengths(rng, count))]


def _numbered(plans: list[Plan]) -> list[Plan]:
    """Returns the plans by identity and camera, numbered within an identity as in MARS."""
    numbers: dict[int, int] = {}
    ordered = sorted(plans, key=lambda plan: (plan.pid, plan.camid))
    for index, plan in enumerate(ordered):
        numbers[plan.pid] = numbers.get(plan.pid, 0) + 1
        ordered[index] = replace(plan, number=numbers[plan.pid])
    return ordered
