"""A walking person as polygons: a skeleton with a gait and clothes, seen by the camera and painted with OpenCV.

All `F` frames of a tracklet are computed at once. Body coordinates are metres: x to the left, y up
from the ground, z forward. Picture coordinates are metres too: u to the right, v down, from the point between the
feet. A yaw of 0 looks into the camera, pi/2 walks to the right of the picture.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from data_prep.synthetic.people import COLOURS, HAIRS, SKINS, Person

_SUBPIXEL_BITS = 4
_SHADE = 0.66   # brightness of the side away from the light
_FAR_LIMB = 0.80
# The garment of the upper body, in parts of the body height: where it ends, how much wider than the body it is.
_HEM = {"shirt": 0.515, "long sleeves": 0.505, "jacket": 0.465, "coat": 0.315}
_LOOSE = {"shirt": 1.0, "long sleeves": 1.02, "jacket": 1.13, "coat": 1.15}
# Half width and half depth of the trunk at a height, all in parts of the body height.
_TRUNK = np.array([
    # height, width, depth
    [0.845, 0.026, 0.026], [0.822, 0.085, 0.042], [0.795, 0.116, 0.058], [0.72, 0.112, 0.070], [0.62, 0.094, 0.062],
    [0.52, 0.100, 0.070], [0.42, 0.108, 0.092], [0.30, 0.118, 0.118]])


@dataclass(frozen=True)
class Shape:
    """A filled polygon: `points` float `[F, K, 2]` as (u, v) in metres, `colour` RGB."""

    points: np.ndarray
    colour: tuple[float, ...]


def walking(person: Person, phase: np.ndarray, yaw: np.ndarray, pitch: float, light: int) -> list[Shape]:
    """Returns the shapes of a walking person, back to front.

    Args:
        phase: `[F]`, radians of the gait; one cycle is two steps.
        yaw: `[F]`, radians; the camera's side of the body is that of the mean yaw in all frames.
        pitch: radians by which the camera looks down.
        light: 1 when the light comes from the right of the picture, -1 from the left.
    """
    sketch = _Sketch(person, yaw, pitch, light)
    joints = _joints(person, phase)
    left_is_far = np.sin(yaw).mean() > 0
    far, near = ("left", "right") if left_is_far else ("right", "left")
    facing = float(np.cos(yaw).mean())
    _arm(sketch, joints, far, _FAR_LIMB)
    if facing > 0.2:
        _backpack(sketch)
        _long_hair(sketch, joints)
    _shoulder_bag(sketch, shown=left_is_far, strap=False)
    _leg(sketch, joints, far, _FAR_LIMB)
    _leg(sketch, joints, near, 1.0)
    if person.lower == "skirt":
        sketch.cloth(0.56, 0.325, -1, 1, COLOURS[person.lower_colour])
    sketch.limb(joints["neck"], joints["chin"], 0.028, 0.026, sketch.skin)
    _trunk(sketch, facing)
    _shoulder_bag(sketch, shown=not left_is_far, strap=True)
    if facing <= 0.2:
        _backpack(sketch)
    _head(sketch, joints, facing)
    if facing <= 0.2:
        _long_hair(sketch, joints)
    _arm(sketch, joints, near, 1.0)
    return sketch.shapes


def extent(shapes: list[Shape]) -> np.ndarray:
    """Returns the bounding box `[F, 4]` of the shapes as (top, bottom, left, right) in metres."""
    low = np.min([shape.points.min(axis=1) for shape in shapes], axis=0)
    high = np.max([shape.points.max(axis=1) for shape in shapes], axis=0)
    return np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], axis=1)


def paint(image: np.ndarray, polygons: list[tuple[np.ndarray, tuple[float, ...]]], frame: int) -> None:
    """Paints `to_pixels(...)` of one frame into `image`, uint8 `[h, w, 3]`, RGB."""
    for points, colour in polygons:
        cv2.fillConvexPoly(image, points[frame], colour, cv2.LINE_AA, _SUBPIXEL_BITS)


def to_pixels(shapes: list[Shape], offset: np.ndarray, scale: np.ndarray) -> list[tuple[np.ndarray, tuple]]:
    """Returns the shapes as OpenCV polygons at `offset + scale * points`, both `[F, 2]` as (u, v) in pixels."""
    fine = 1 << _SUBPIXEL_BITS
    return [(np.round((shape.points * scale[:, None] + offset[:, None]) * fine).astype(np.int32), shape.colour)
            for shape in shapes]


class _Sketch:
    """Collects the shapes of a person in a given direction. Sizes are parts of the body height."""

    def __init__(self, person: Person, yaw: np.ndarray, pitch: float, light: int):
        self.person, self.light, self.shapes = person, light, []
        self.cos, self.sin, self.pitch = np.cos(yaw), np.sin(yaw), pitch
        self.skin, self.hair = SKINS[person.skin], HAIRS[person.hair]

    def at(self, x, y, z) -> np.ndarray:
        """Returns the position `[F, 2]` of a point of the body in the picture, in metres."""
        across = x * self.cos + z * self.sin
        towards = z * self.cos - x * self.sin
        down = towards * np.sin(self.pitch) - y * np.cos(self.pitch)
        return np.stack([across, down + 0 * across], axis=-1) * self.person.height

    def half_width(self, width: float, depth: float) -> np.ndarray:
        """Returns the visible half width `[F]` of an elliptic section, in metres."""
        return np.hypot(width * self.cos, depth * self.sin) * self.person.height

    def add(self, points: np.ndarray, colour, brightness: float = 1.0) -> None:
        colour = tuple(min(255.0, brightness * value) for value in colour)
        self.shapes.append(Shape(np.asarray(points, np.float32), colour))

    def limb(self, start, end, start_radius: float, end_radius: float, colour, brightness: float = 1.0) -> None:
        """A rounded limb from one joint to another, lit from one side."""
        start, end = self.at(*start), self.at(*end)
        radii = np.array([start_radius, end_radius]) * self.person.height
        self.add(_capsule(start, end, *radii), colour, brightness * _SHADE)
        shift = np.array([0.24 * self.light, -0.06]) * radii.mean()
        self.add(_capsule(start + shift, end + shift, *(0.72 * radii)), colour, brightness)

    def ellipse(self, centre: np.ndarray, half_width, half_height, colour, brightness: float = 1.0,
                arc: tuple[float, float] = (0, 2 * np.pi)) -> None:
        """An ellipse, or the part of it between two angles; pi to 2 pi is the upper half. Metres."""
        angles = np.linspace(*arc, 14, endpoint=arc[1] - arc[0] < 6)
        size = np.stack([half_width + 0 * self.cos, half_height + 0 * self.cos], axis=-1)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        self.add(centre[:, None] + size[:, None] * circle, colour, brightness)

    def box(self, centre: np.ndarray, half_width: np.ndarray, half_height: float, colour) -> None:
        """A rectangle with rounded corners, lit from one side. Metres."""
        corners = np.array([[-1, -.6], [-.6, -1], [.6, -1], [1, -.6], [1, .75], [.7, 1], [-.7, 1], [-1, .75]])
        size = np.stack([half_width + 0 * self.cos, half_height + 0 * self.cos], axis=-1)[:, None]
        self.add(centre[:, None] + size * corners, colour, _SHADE)
        inner = corners * [0.72, 0.8] + [0.22 * self.light, -0.1]
        self.add(centre[:, None] + size * inner, colour)

    def cloth(self, top: float, bottom: float, left: float, right: float, colour, loose: float = 1.0) -> None:
        """A piece of garment on the trunk, between two heights and two positions across it (-1 to 1)."""
        low, high = (-0.5, 0.92) if self.light > 0 else (-0.92, 0.5)
        self.add(self._patch(top, bottom, left, right, loose), colour, _SHADE)
        if max(left, low) < min(right, high):
            self.add(self._patch(top, bottom, max(left, low), min(right, high), loose), colour)

    def _patch(self, top: float, bottom: float, left: float, right: float, loose: float) -> np.ndarray:
        """Returns the outline `[F, K, 2]` of a piece of the trunk's surface."""
        inside = [level for level in _TRUNK[:, 0] if bottom < level < top]
        heights = np.array([top, *inside, bottom])
        widths, depths = (np.interp(heights, _TRUNK[::-1, 0], _TRUNK[::-1, column]) for column in (1, 2))
        build = loose * self.person.build
        edges = []
        for height, width, depth in zip(heights, widths, depths, strict=True):
            centre = self.at(0, height, 0.02 * (height - 0.5))
            half = self.half_width(width * build, depth * build)
            edges.append([centre + np.stack([half * side, 0 * half], axis=-1) for side in (left, right)])
        outline = [edge[0] for edge in edges] + [edge[1] for edge in reversed(edges)]
        return np.stack(outline, axis=1)


def _capsule(start: np.ndarray, end: np.ndarray, start_radius: float, end_radius: float) -> np.ndarray:
    """Returns the outline `[F, 10, 2]` around the line from `start` to `end`, both `[F, 2]`."""
    along = end - start
    angle = np.arctan2(along[:, 1], along[:, 0])[:, None]
    around = np.linspace(np.pi / 2, 3 * np.pi / 2, 5)
    circle = lambda turn: np.stack([np.cos(angle + turn), np.sin(angle + turn)], axis=-1)  # noqa: E731
    return np.concatenate([start[:, None] + start_radius * circle(around),
                           end[:, None] + end_radius * circle(around + np.pi)], axis=1)


def _joints(person: Person, phase: np.ndarray) -> dict[str, tuple]:
    """Returns the joints as (x, y, z) in parts of the body height, each a number or `[F]`."""
    thigh, shank, ankle = 0.245, 0.246, 0.042
    legs = {}
    for side, turn in (("left", 0.0), ("right", np.pi)):
        swing = person.stride * np.sin(phase + turn)
        bent = 0.10 + 0.95 * np.maximum(0, np.cos(phase + turn)) ** 1.6
        legs[side] = (swing, swing - bent)
    pelvis = ankle + np.max([thigh * np.cos(upper) + shank * np.cos(lower) for upper, lower in legs.values()], axis=0)
    rise = pelvis - 0.53
    joints = {"neck": (0, 0.82 + rise, 0.01), "chin": (0, 0.875 + rise, 0.015), "head": (0, 0.925 + rise, 0.02)}
    for side, x, turn in (("left", 1, 0.0), ("right", -1, np.pi)):
        upper, lower = legs[side]
        hip = np.array([0.05 * person.build * x, 0, 0])
        knee_y, knee_z = pelvis - thigh * np.cos(upper), thigh * np.sin(upper)
        foot_y, foot_z = knee_y - shank * np.cos(lower), knee_z + shank * np.sin(lower)
        toe = 0.55 * lower
        joints |= {
            f"hip {side}": (hip[0], pelvis, 0), f"knee {side}": (hip[0] * 1.05, knee_y, knee_z),
            f"ankle {side}": (hip[0] * 1.05, foot_y, foot_z),
            f"toe {side}": (hip[0] * 1.3, foot_y - 0.022 + 0.10 * np.sin(toe), foot_z + 0.105 * np.cos(toe))}
        back = -person.arm_swing * np.sin(phase + turn)
        bent = 0.25 + 0.35 * np.maximum(0, back)
        shoulder = np.array([0.103 * person.build * x, 0.797, 0.01])
        elbow = (shoulder[0] + 0.028 * x, shoulder[1] + rise - 0.165 * np.cos(back), 0.01 + 0.165 * np.sin(back))
        wrist = (elbow[0] - 0.004 * x, elbow[1] - 0.15 * np.cos(back + bent), elbow[2] + 0.15 * np.sin(back + bent))
        joints |= {f"shoulder {side}": (shoulder[0], shoulder[1] + rise, 0.01), f"elbow {side}": elbow,
                   f"wrist {side}": wrist}
    return joints


def _leg(sketch: _Sketch, joints: dict, side: str, brightness: float) -> None:
    person = sketch.person
    hip, knee, ankle, toe = (joints[f"{joint} {side}"] for joint in ("hip", "knee", "ankle", "toe"))
    cloth = COLOURS[person.lower_colour]
    bare = person.lower in ("shorts", "skirt")
    wide = {"trousers": 1.0, "wide trousers": 1.35, "shorts": 1.2, "skirt": 0.9}[person.lower] * person.build**0.7
    heel = (ankle[0], ankle[1] - 0.012, ankle[2] - 0.018)
    sketch.limb(heel, toe, 0.027, 0.019, COLOURS[person.shoes], brightness)
    if bare:
        sketch.limb(knee, ankle, 0.031, 0.021, sketch.skin, brightness)
    else:
        sketch.limb(knee, ankle, 0.037 * wide, 0.028 * wide**1.5, cloth, brightness)
    if person.lower != "skirt":
        sketch.limb(hip, knee, 0.054 * wide, 0.040 * wide, cloth, brightness)
    else:
        sketch.limb(hip, knee, 0.045, 0.034, sketch.skin, brightness)


def _arm(sketch: _Sketch, joints: dict, side: str, brightness: float) -> None:
    person = sketch.person
    shoulder, elbow, wrist = (joints[f"{joint} {side}"] for joint in ("shoulder", "elbow", "wrist"))
    cloth = COLOURS[person.upper_colour]
    loose = _LOOSE[person.upper] ** 1.5 * person.build**0.5
    bare = person.upper == "shirt"
    if person.bag == "handbag" and side == "right":
        held = (wrist[0], wrist[1] - 0.085, wrist[2])
        sketch.box(sketch.at(*held), sketch.half_width(0.035, 0.085), 0.06 * person.height, COLOURS[person.bag_colour])
    sketch.limb(wrist, (wrist[0], wrist[1] - 0.028, wrist[2] + 0.006), 0.021, 0.018, sketch.skin, brightness)
    sketch.limb(elbow, wrist, 0.028 if bare else 0.031 * loose, 0.021 if bare else 0.027 * loose,
                sketch.skin if bare else cloth, brightness)
    sketch.limb(shoulder, elbow, 0.041 * loose, 0.034 * loose, cloth, brightness)


def _trunk(sketch: _Sketch, facing: float) -> None:
    person = sketch.person
    colour, second, loose = COLOURS[person.upper_colour], COLOURS[person.pattern_colour], _LOOSE[person.upper]
    hem = _HEM[person.upper]
    sketch.cloth(0.62, 0.50, -1, 1, COLOURS[person.lower_colour], 1.0)
    sketch.cloth(0.845, hem, -1, 1, colour, loose)
    if person.pattern == "stripes":
        for top in np.arange(0.775, hem + 0.03, -0.075):
            sketch.cloth(top, top - 0.032, -1, 1, second, loose)
    elif person.pattern == "bars":
        for left in (-0.95, -0.45, 0.05, 0.55):
            sketch.cloth(0.80, hem, left, left + 0.24, second, loose)
    elif person.pattern == "halves":
        sketch.cloth(0.68, hem, -1, 1, second, loose)
    elif person.pattern == "print":
        sketch.cloth(0.755, 0.645, -0.5, 0.5, second, loose)
    if person.upper in ("jacket", "coat") and facing > 0.25:  # worn open: a light shirt shows
        sketch.cloth(0.835, hem + 0.03, -0.09, 0.09, COLOURS["white"], loose)
    if person.bag == "backpack" and facing > 0.2:
        for left in (-0.62, 0.46):
            sketch.cloth(0.83, 0.68, left, left + 0.16, COLOURS[person.bag_colour], loose)


def _backpack(sketch: _Sketch) -> None:
    person = sketch.person
    if person.bag == "backpack":
        sketch.box(sketch.at(0, 0.685, -0.115), sketch.half_width(0.088, 0.058), 0.115 * person.height,
                   COLOURS[person.bag_colour])


def _shoulder_bag(sketch: _Sketch, shown: bool, strap: bool) -> None:
    person = sketch.person
    if person.bag != "shoulder bag":
        return
    colour = COLOURS[person.bag_colour]
    if strap:
        sketch.limb((-0.085 * person.build, 0.815, 0.03 * np.sign(sketch.cos)),
                    (0.10 * person.build, 0.53, 0.05 * np.sign(sketch.cos)), 0.011, 0.011, colour)
    if shown:
        sketch.box(sketch.at(0.125 * person.build, 0.475, 0), sketch.half_width(0.045, 0.095), 0.065 * person.height,
                   colour)


def _long_hair(sketch: _Sketch, joints: dict) -> None:
    if sketch.person.hair_style == "long":
        x, y, z = joints["head"]
        sketch.limb((x, y, z - 0.022), (x, y - 0.135, z - 0.035), 0.052, 0.046, sketch.hair)


def _head(sketch: _Sketch, joints: dict, facing: float) -> None:
    person, height = sketch.person, sketch.person.height
    x, y, z = joints["head"]
    scalp = sketch.skin if person.hair_style == "bald" else sketch.hair
    centre = sketch.at(x, y, z - 0.006)
    sketch.ellipse(centre, sketch.half_width(0.050, 0.059), 0.070 * height, scalp)
    if person.hair_style == "bun":
        sketch.ellipse(sketch.at(x, y + 0.045, z - 0.062), 0.026 * height, 0.026 * height, scalp, 0.9)
    if facing > -0.35:
        face = sketch.at(x, y - 0.014, z + 0.020)
        sketch.ellipse(face, sketch.half_width(0.042, 0.044), 0.055 * height, sketch.skin, 0.85)
        lit = face + [0.008 * height * sketch.light, 0.0]
        sketch.ellipse(lit, sketch.half_width(0.032, 0.032), 0.048 * height, sketch.skin)
    else:
        sketch.ellipse(sketch.at(x, y - 0.052, z), sketch.half_width(0.032, 0.04), 0.022 * height, sketch.skin, 0.8)
    if person.hat == "none":
        return
    colour = COLOURS[person.hat_colour]
    crown = sketch.at(x, y + 0.012, z - 0.004)
    tall = {"cap": 0.066, "beanie": 0.080}[person.hat] * height
    sketch.ellipse(crown, sketch.half_width(0.054, 0.064), tall, colour, _SHADE + 0.1, arc=(np.pi, 2 * np.pi))
    sketch.ellipse(crown + [0.006 * height * sketch.light, 0], sketch.half_width(0.040, 0.048), 0.9 * tall, colour,
                   arc=(np.pi, 2 * np.pi))
    if person.hat == "cap" and facing > -0.5:
        sketch.limb((x, y + 0.014, z + 0.03), (x, y + 0.010, z + 0.095), 0.014, 0.010, colour, 0.9)
