"""One tracklet: people walk through a place, a faulty box follows one of them, and the camera takes pictures."""

from dataclasses import dataclass

import cv2
import numpy as np

from data_prep.synthetic.cameras import CAMERAS, CROP, HORIZON, SIZE, Camera, Studio
from data_prep.synthetic.figures import Shape, extent, paint, to_pixels, walking
from data_prep.synthetic.people import Person
from data_prep.synthetic.plan import Cast, Plan

_CUT = 0.08  # a box is cut on a side where at least this part of the person is missing
_SHADOW = 0.35


@dataclass(frozen=True)
class _Walker:
    """A walking person: shapes around the feet, the feet `[F, 2]` as (u, v) in metres, and the size `[F]`."""

    shapes: list[Shape]
    feet: np.ndarray
    size: np.ndarray

    def box(self) -> np.ndarray:
        """Returns the bounding box `[F, 4]` as (top, bottom, left, right) in the place."""
        return extent(self.shapes) * self.size[:, None] + self.feet[:, [1, 1, 0, 0]]


def film(studio: Studio, cast: Cast, plan: Plan, seed: int) -> tuple[list[bytes], dict]:
    """Draws a tracklet.

    Returns:
        The frames as JPEG, and their truth: per frame the box of the person in pixels of the crop, which it may leave,
        the box of the other person or None, and the sides on which the person is cut.
    """
    rng = np.random.default_rng([seed, 2, plan.walk])
    camera = CAMERAS[plan.camid - 1]
    own, other = _walkers(rng, cast, plan, camera)
    exposure = np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.04, 3))
    flicker = 1 + 0.015 * rng.normal(size=plan.length)
    box_rng = np.random.default_rng([seed, 3, plan.walk, plan.number, plan.pid == 0])
    target = own.box()
    if plan.companion is not None:  # a box around both
        low, high = np.minimum(target, other.box()), np.maximum(target, other.box())
        target = np.stack([low[:, 0], high[:, 1], low[:, 2], high[:, 3]], axis=1)
    windows = window(box_rng, target, plan.box)
    shown = [walker for walker in (own, other) if walker is not None and plan.person is not None]
    shown.sort(key=lambda walker: walker.feet[:, 1].mean())
    scales = np.array([CROP[1], CROP[0]]) / (windows[:, [3, 1]] - windows[:, [2, 0]])
    polygons = [to_pixels(walker.shapes, (walker.feet - windows[:, [2, 0]]) * scales, scales * walker.size[:, None])
                for walker in shown]
    frames = []
    for frame in range(plan.length):
        image = studio.view(plan.camid - 1, windows[frame])
        _shadows(image, shown, windows[frame], scales[frame], frame)
        for walker in polygons:
            paint(image, walker, frame)
        grain = tuple(box_rng.integers(0, 1 << 16, 2))
        frames.append(studio.develop(plan.camid - 1, image, windows[frame], exposure * flicker[frame], grain))
    return frames, _truth(own if plan.person is not None else None, other, windows, scales)


def window(rng: np.random.Generator, target: np.ndarray, kind: str) -> np.ndarray:
    """Returns the faulty boxes of a tracklet, `[F, 4]`.

    All boxes shake. `tight` follows the person, `loose` is too large and off centre, `drifting` slides off during the
    tracklet, `cut left`, `cut right` and `cut bottom` miss that side of the person most of the time, `junk` shows
    little of the person.

    Args:
        target: the person's box, `[F, 4]` as (top, bottom, left, right) in metres.
    """
    frames = len(target)
    time = np.linspace(0, 1, frames)
    smooth = np.stack([np.polyval(np.polyfit(time, side, 1), time) for side in target.T])
    person_height, person_width = smooth[1] - smooth[0], smooth[3] - smooth[2]
    height = person_height * rng.uniform(1.03, 1.10) * (1 + 0.02 * _shaking(rng, frames))
    width = np.maximum(height * rng.uniform(0.36, 0.50), 0.95 * person_width)
    across = (smooth[2] + smooth[3]) / 2 + 0.015 * height * _shaking(rng, frames)
    down = (smooth[0] + smooth[1]) / 2 + 0.012 * height * _shaking(rng, frames)
    side = rng.choice([-1, 1])
    during = np.clip(6 * (time - rng.uniform(-0.1, 0.25)), 0, 1)
    if kind == "loose":
        height, width = height * rng.uniform(1.25, 1.6), width * rng.uniform(1.35, 1.9)
        across, down = across + side * width * rng.uniform(0, 0.16), down + height * rng.uniform(-0.1, 0.1)
    elif kind == "drifting":
        travel = time - rng.uniform(0.0, 0.4)
        across = across + side * travel * width * rng.uniform(0.45, 0.75)
        down = down + travel * height * rng.uniform(-0.18, 0.18)
    elif kind == "cut left":
        across = across + during * person_width * rng.uniform(0.30, 0.50)
    elif kind == "cut right":
        across = across - during * person_width * rng.uniform(0.30, 0.50)
    elif kind == "cut bottom":
        lost = during * height * rng.uniform(0.25, 0.45)
        height, down = height - lost, down - lost / 2
    elif kind == "junk":
        across, down = across + side * width * rng.uniform(0.6, 0.8), down + height * rng.uniform(-0.45, 0.45)
    return np.stack([down - height / 2, down + height / 2, across - width / 2, across + width / 2], axis=1)


def _shaking(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Returns `[frames]` of unit variance with correlated neighbours."""
    values = rng.normal(size=frames)
    for index in range(1, frames):
        values[index] = 0.7 * values[index - 1] + 0.714 * values[index]
    return values


def _walkers(rng: np.random.Generator, cast: Cast, plan: Plan, camera: Camera) -> tuple[_Walker, _Walker | None]:
    """Returns the person in the boxes and the companion or the passer, if any."""
    leading = cast.people[plan.person if plan.person is not None else 0]
    yaw = rng.choice(camera.directions) + camera.spread * rng.normal() + 0.15 * _shaking(rng, 1)
    pace = 2 * np.pi / rng.uniform(10, 13)  # of the gait, radians a frame
    phase = rng.uniform(0, 2 * np.pi)
    time = np.arange(plan.length)
    metres = (time - time.mean()) * pace / (2 * np.pi) * 0.75 * leading.height
    nearer = metres * np.cos(yaw)
    size = np.clip(rng.uniform(0.92, 1.08) * (1 + 0.05 * nearer), 0.6, 1.5)
    feet = np.stack([rng.uniform(1.5, SIZE[1] - 1.5) + metres * np.sin(yaw),
                     HORIZON + rng.uniform(0.9, 1.5) + 0.15 * nearer], axis=1)
    turned = np.full(plan.length, 0.0) + yaw
    own = _Walker(walking(leading, phase + pace * time, turned, camera.pitch, camera.light), feet, size)
    if plan.companion is not None:
        side = rng.choice([-1, 1]) * rng.uniform(0.40, 0.55)
        beside = np.array([side, rng.uniform(-0.1, 0.1)])
        return own, _Walker(
            walking(cast.people[plan.companion], phase + rng.uniform(1, 5) + pace * time, turned, camera.pitch,
                    camera.light), feet + beside, size * rng.uniform(0.96, 1.04))
    if plan.passer is not None:
        return own, _passer(rng, cast.people[plan.passer], plan, camera, own)
    return own, None


def _passer(rng: np.random.Generator, person: Person, plan: Plan, camera: Camera, own: _Walker) -> _Walker:
    """Returns a person who crosses the box, nearer or farther than its own person."""
    time = np.arange(plan.length)
    meeting = rng.uniform(0.1, 0.9) * plan.length
    relative = rng.choice([-1, 1]) * rng.uniform(0.10, 0.18)  # metres a frame, seen from the own person
    in_front = plan.passing == "in front"
    nearer, larger = (rng.uniform(0.1, 0.3), rng.uniform(1.1, 1.35)) if in_front else (
        -rng.uniform(0.06, 0.2), rng.uniform(0.78, 0.94))
    feet = own.feet + np.stack([relative * (time - meeting), np.full(plan.length, nearer)], axis=1)
    heading = np.sign(feet[-1, 0] - feet[0, 0]) * np.pi / 2 + 0.3 * rng.normal()
    phase = rng.uniform(0, 6) + 2 * np.pi / rng.uniform(10, 13) * time
    shapes = walking(person, phase, np.full(plan.length, heading), camera.pitch, camera.light)
    return _Walker(shapes, feet, own.size * larger)


def _shadows(image: np.ndarray, walkers: list[_Walker], window: np.ndarray, scale: np.ndarray, frame: int) -> None:
    """Darkens the ground under the feet, in place."""
    dark = image.copy()
    for walker in walkers:
        centre = (walker.feet[frame] - window[[2, 0]]) * scale
        axes = np.array([0.34, 0.085]) * walker.size[frame] * scale
        cv2.ellipse(dark, centre.round().astype(int).tolist(), axes.round().astype(int).tolist(), 0, 0, 360,
                    (40, 40, 44), cv2.FILLED, cv2.LINE_AA)
    cv2.addWeighted(dark, _SHADOW, image, 1 - _SHADOW, 0, dst=image)


def _truth(own: _Walker | None, other: _Walker | None, windows: np.ndarray, scales: np.ndarray) -> dict:
    def in_pixels(walker: _Walker) -> np.ndarray:
        corner = windows[:, [0, 0, 2, 2]]
        return np.round((walker.box() - corner) * scales[:, [1, 1, 0, 0]]).astype(int)

    if own is None:
        return {"own": None, "other": None, "cut": None}
    others = None if other is None else [
        box if box[0] < CROP[0] and box[1] > 0 and box[2] < CROP[1] and box[3] > 0 else None
        for box in in_pixels(other).tolist()]
    boxes = in_pixels(own)
    return {"own": boxes.tolist(), "other": others, "cut": [_cut_sides(box) for box in boxes]}


def _cut_sides(box: np.ndarray) -> list[str]:
    height, width = box[1] - box[0], box[3] - box[2]
    missing = {"top": -box[0] / height, "bottom": (box[1] - CROP[0]) / height, "left": -box[2] / width,
               "right": (box[3] - CROP[1]) / width}
    return [side for side, part in missing.items() if part >= _CUT]
