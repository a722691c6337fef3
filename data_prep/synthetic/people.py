"""The people of the synthetic set, and the attributes in which they differ.

Every attribute has a few shared values: what a network learns about one identity helps with others, and no single
garment identifies a person.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

# RGB in neutral light.
COLOURS = {
    "black": (38, 38, 42), "grey": (126, 128, 132), "white": (226, 226, 222), "red": (186, 36, 40),
    "orange": (222, 124, 38), "yellow": (224, 200, 62), "green": (48, 126, 66), "teal": (42, 140, 146),
    "blue": (44, 84, 172), "navy": (32, 42, 92), "purple": (116, 60, 146), "pink": (222, 136, 164),
    "brown": (112, 76, 50), "beige": (200, 178, 140), "denim": (82, 108, 146), "olive": (110, 112, 62)}
SKINS = {"pale": (232, 196, 172), "tan": (204, 158, 122), "brown": (150, 104, 74), "dark": (94, 64, 48)}
HAIRS = {"black": (34, 28, 26), "brown": (92, 60, 38), "blond": (206, 172, 106), "grey": (164, 162, 160),
         "red": (152, 70, 32)}

_CHOICES = {
    "skin": tuple(SKINS),
    "hair": tuple(HAIRS),
    "hair_style": ("short", "short", "long", "bun", "bald"),
    "upper": ("shirt", "shirt", "long sleeves", "long sleeves", "jacket", "coat"),
    "upper_colour": ("black", "grey", "white", "red", "orange", "yellow", "green", "teal", "blue", "purple", "pink",
                     "brown"),
    "pattern": ("plain", "plain", "plain", "stripes", "bars", "halves", "print"),
    "pattern_colour": ("black", "white", "red", "yellow", "blue", "green"),
    "lower": ("trousers", "trousers", "wide trousers", "shorts", "skirt"),
    "lower_colour": ("black", "grey", "white", "denim", "navy", "beige", "brown", "olive", "red", "teal"),
    "shoes": ("black", "white", "brown", "red", "blue", "yellow"),
    "bag": ("none", "none", "backpack", "backpack", "shoulder bag", "handbag"),
    "bag_colour": ("black", "red", "yellow", "green", "blue", "beige"),
    "hat": ("none", "none", "none", "cap", "beanie"),
    "hat_colour": ("black", "white", "red", "blue", "yellow"),
}
# The differences of confusable people: always visible, if sometimes small.
_VISIBLE = ("upper_colour", "lower_colour", "pattern", "shoes", "hat", "bag")
_LEAST_DIFFERENCES = 5  # between other people, without lengths


@dataclass(frozen=True)
class Person:
    """One pedestrian: lengths in metres, `build` relative to the average width, `stride`, `arm_swing` in radians."""

    height: float
    build: float
    stride: float
    arm_swing: float
    skin: str
    hair: str
    hair_style: str
    upper: str
    upper_colour: str
    pattern: str
    pattern_colour: str
    lower: str
    lower_colour: str
    shoes: str
    bag: str
    bag_colour: str
    hat: str
    hat_colour: str


def differences(one: Person, other: Person) -> list[str]:
    """Returns the names of the attributes that differ visibly, so without colours of what nobody wears."""
    differing = []
    for field in fields(Person):
        name = field.name
        worn = {"pattern_colour": "pattern", "bag_colour": "bag", "hat_colour": "hat"}.get(name)
        if worn and getattr(one, worn) in ("plain", "none") and getattr(other, worn) in ("plain", "none"):
            continue
        if getattr(one, name) != getattr(other, name):
            differing.append(name)
    return differing


def draw_people(rng: np.random.Generator, count: int, confusable_pairs: int) -> tuple[list[Person], list[dict]]:
    """Draws `count` different people.

    Returns:
        The people, and the confusable pairs `{"people": [i, j], "differ_in": attribute}`: person `j` is a copy of `i`
        except for that attribute. Other people differ in several.
    """
    people: list[Person] = []
    while len(people) < count - confusable_pairs:
        person = _random_person(rng)
        if all(len(_CHOICES.keys() & differences(person, other)) >= _LEAST_DIFFERENCES for other in people):
            people.append(person)
    pairs = []
    for original in rng.choice(len(people), confusable_pairs, replace=False):
        attribute = str(rng.choice(_VISIBLE))
        pairs.append({"people": [int(original), len(people)], "differ_in": attribute})
        people.append(_twin(rng, people[original], attribute))
    return people, pairs


def _random_person(rng: np.random.Generator) -> Person:
    drawn = {name: str(rng.choice(values)) for name, values in _CHOICES.items()}
    while COLOURS[drawn["pattern_colour"]] == COLOURS[drawn["upper_colour"]]:
        drawn["pattern_colour"] = str(rng.choice(_CHOICES["pattern_colour"]))
    return Person(
        height=round(float(rng.uniform(1.54, 1.92)), 3), build=round(float(rng.uniform(0.86, 1.28)), 3),
        stride=round(float(rng.uniform(0.36, 0.52)), 3), arm_swing=round(float(rng.uniform(0.25, 0.6)), 3), **drawn)


def _twin(rng: np.random.Generator, person: Person, attribute: str) -> Person:
    while True:
        twin = replace(person, **{attribute: str(rng.choice(_CHOICES[attribute]))})
        if differences(person, twin) and COLOURS[twin.pattern_colour] != COLOURS[twin.upper_colour]:
            return twin
