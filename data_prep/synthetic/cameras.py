"""The four places where people are drawn, with the scale, light, colour cast and blur of their cameras.

A place is a painted background in metres: u to the right, v down, the ground below `HORIZON`. A window is
`(top, bottom, left, right)` in these metres; every window becomes a crop of `CROP` pixels, as MARS resizes its crops.
"""

from dataclasses import dataclass

import cv2
import numpy as np

CROP = (256, 128)          # rows, columns
SIZE = (6.0, 14.0)         # metres, down and across
HORIZON = 3.5
_PIXELS_A_METRE = 64       # of the painted background
_NOISE_TILE = 384
_JPEG_QUALITY = 88


@dataclass(frozen=True)
class Camera:
    """A camera and its place.

    Attributes:
        pixels_a_metre: pixels of the sensor per metre.
        directions: yaws, in radians, in which people walk; `spread` is their standard deviation.
        pitch: radians by which the camera looks down. light: 1 if the light comes from the right, else -1.
        colour: 3x3, sensor RGB from RGB in neutral light. haze: added to it, 0 to 255.
        gamma: above 1 darkens the middle tones. blur and noise: sigma in sensor pixels and in grey values.
    """

    place: str
    pixels_a_metre: float
    directions: tuple[float, ...]
    spread: float
    pitch: float
    light: int
    colour: tuple[tuple[float, float, float], ...]
    haze: tuple[float, float, float]
    gamma: float
    blur: float
    noise: float


CAMERAS = (
    Camera("plaza", 88, (1.57, -1.57), 0.25, 0.12, 1,
           ((1.06, 0.02, 0.0), (0.02, 1.02, 0.0), (0.0, 0.04, 0.94)), (0, 0, 0), 0.95, 0.6, 3.0),
    Camera("park", 60, (0.0, 3.14), 0.35, 0.22, -1,
           ((0.86, 0.04, 0.01), (0.02, 0.92, 0.03), (0.01, 0.05, 1.00)), (0, 1, 4), 1.12, 0.8, 5.0),
    Camera("hall", 72, (0.75, -0.75, 2.4, -2.4), 0.25, 0.30, 1,
           ((0.74, 0.08, 0.02), (0.04, 0.82, 0.03), (0.02, 0.07, 0.74)), (20, 25, 19), 0.95, 1.0, 4.0),
    Camera("street", 68, (1.2, -1.2, 0.3, 2.8), 0.30, 0.16, -1,
           ((1.06, 0.06, 0.02), (0.04, 0.92, 0.02), (0.02, 0.05, 0.80)), (4, 2, 0), 1.06, 0.8, 6.0),
)


class Studio:
    """The painted places of one seed, and the noise of their cameras."""

    def __init__(self, seed: int):
        rng = np.random.default_rng([seed, 1])
        self._backgrounds = [_PAINTERS[camera.place](rng) for camera in CAMERAS]
        noise = rng.normal(size=(_NOISE_TILE, _NOISE_TILE, 3))
        self._noise = [np.round(noise * camera.noise).astype(np.int16) for camera in CAMERAS]

    def view(self, camera: int, window: np.ndarray) -> np.ndarray:
        """Returns the empty place in a window, uint8 `[256, 128, 3]`, RGB in neutral light."""
        top, bottom, left, right = window * _PIXELS_A_METRE
        scale = np.array([(right - left) / CROP[1], (bottom - top) / CROP[0]])
        matrix = np.array([[scale[0], 0, left], [0, scale[1], top]])
        return cv2.warpAffine(self._backgrounds[camera], matrix, CROP[::-1],
                              flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101)

    def develop(self, camera: int, image: np.ndarray, window: np.ndarray, exposure: np.ndarray,
                grain: tuple[int, int]) -> bytes:
        """Returns the camera's JPEG of a picture in neutral light.

        Args:
            image: uint8 `[256, 128, 3]`, RGB, of `window`.
            exposure: `[3]`, factors on red, green and blue in this tracklet.
            grain: position of this frame in the noise tile, two numbers from 0.
        """
        optics = CAMERAS[camera]
        rows = int(np.clip((window[1] - window[0]) * optics.pixels_a_metre, 32, CROP[0]))
        columns = int(np.clip((window[3] - window[2]) * optics.pixels_a_metre, 16, CROP[1]))
        sensor = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
        sensor = cv2.GaussianBlur(sensor, (0, 0), optics.blur)
        mixing = np.column_stack([optics.colour, optics.haze]) * exposure[:, None]
        sensor = cv2.transform(sensor, mixing[::-1])  # from RGB to OpenCV's BGR
        gamma = 255 * (np.arange(256) / 255) ** optics.gamma
        sensor = cv2.LUT(sensor, np.round(gamma).astype(np.uint8))
        y, x = grain[0] % (_NOISE_TILE - CROP[0]), grain[1] % (_NOISE_TILE - CROP[1])
        sensor = cv2.add(sensor, self._noise[camera][y:y + rows, x:x + columns], dtype=cv2.CV_8U)
        crop = cv2.resize(sensor, CROP[::-1], interpolation=cv2.INTER_LINEAR)
        return cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def _canvas(colour: tuple[int, int, int]) -> np.ndarray:
    rows, columns = (int(metres * _PIXELS_A_METRE) for metres in SIZE)
    return np.full((rows, columns, 3), colour, np.uint8)


def _fill(image: np.ndarray, top: float, bottom: float, left: float, right: float, colour) -> None:
    """Fills a rectangle given in metres."""
    corners = [(int(x * _PIXELS_A_METRE), int(y * _PIXELS_A_METRE)) for x, y in ((left, top), (right, bottom))]
    cv2.rectangle(image, *corners, [float(value) for value in colour], cv2.FILLED)


def _weathered(rng: np.random.Generator, image: np.ndarray, stains: float, grain: float) -> np.ndarray:
    """Makes the brightness uneven by large stains and fine grain, relative to the colour."""
    rows, columns = image.shape[:2]
    coarse = cv2.resize(rng.normal(size=(rows // 64, columns // 64)), (columns, rows), interpolation=cv2.INTER_CUBIC)
    texture = 1 + stains * coarse + grain * rng.normal(size=(rows, columns))
    return np.clip(image * texture[..., None], 0, 255).astype(np.uint8)


def _plaza(rng: np.random.Generator) -> np.ndarray:
    """Paving in front of a facade with windows."""
    image = _canvas((172, 166, 156))
    for left in np.arange(0.4, SIZE[1], 1.9):
        for top in (0.5, 1.9):
            _fill(image, top, top + 1.0, left, left + 1.1, (96, 112, 128) + rng.normal(0, 10, 3))
            _fill(image, top + 0.48, top + 0.52, left, left + 1.1, (150, 150, 148))
    _fill(image, HORIZON - 0.45, HORIZON, 0, SIZE[1], (136, 128, 120))
    for row, top in enumerate(np.arange(HORIZON, SIZE[0], 0.32)):
        for left in np.arange(-0.5 * (row % 2), SIZE[1], 1.0):
            _fill(image, top, top + 0.30, max(left, 0), left + 0.98, np.array([166, 160, 152]) + rng.normal(0, 4))
    return _weathered(rng, image, 0.12, 0.02)


def _park(rng: np.random.Generator) -> np.ndarray:
    """A path between a hedge, tree trunks and grass."""
    image = _canvas((128, 138, 120))
    for left in rng.uniform(0, SIZE[1], 9):
        width = rng.uniform(0.15, 0.4)
        _fill(image, 0, HORIZON + rng.uniform(0, 0.4), left, left + width, (98, 86, 74))
    for _ in range(260):
        centre = (rng.uniform([0, 0], [SIZE[1], HORIZON * 0.8]) * _PIXELS_A_METRE).astype(int)
        leaves = np.array([106, 124, 94]) * rng.uniform(0.75, 1.25)
        cv2.circle(image, centre.tolist(), int(rng.uniform(8, 26)), leaves.tolist(), cv2.FILLED, cv2.LINE_AA)
    _fill(image, HORIZON, SIZE[0], 0, SIZE[1], (138, 144, 116))
    _fill(image, HORIZON + 0.7, HORIZON + 2.2, 0, SIZE[1], (170, 160, 138))
    return _weathered(rng, image, 0.12, 0.05)


def _hall(rng: np.random.Generator) -> np.ndarray:
    """A bright tiled floor with columns before a glass wall."""
    image = _canvas((176, 182, 186))
    for left in np.arange(0, SIZE[1], 0.9):
        _fill(image, 0.3, HORIZON - 0.2, left + 0.04, left + 0.86, (158, 172, 180) + rng.normal(0, 7, 3))
    for left in rng.uniform(0, SIZE[1], 4):
        _fill(image, 0.0, HORIZON + 0.3, left, left + 0.45, (196, 194, 188))
        _fill(image, 0.0, HORIZON + 0.3, left + 0.3, left + 0.45, (166, 164, 160))
    for row, top in enumerate(np.arange(HORIZON, SIZE[0], 0.45)):
        for column, left in enumerate(np.arange(0, SIZE[1], 0.75)):
            _fill(image, top, top + 0.45, left, left + 0.75, (190, 186, 176) if (row + column) % 2 else (168, 164, 156))
    return _weathered(rng, image, 0.12, 0.015)


def _street(rng: np.random.Generator) -> np.ndarray:
    """Asphalt and a kerb before bricks, shop windows and posters."""
    image = _canvas((140, 118, 106))
    for row, top in enumerate(np.arange(0, HORIZON, 0.16)):
        for left in np.arange(-0.2 * (row % 2), SIZE[1], 0.4):
            _fill(image, top, top + 0.14, max(left, 0), left + 0.37, np.array([138, 116, 104]) + rng.normal(0, 6))
    for left in np.arange(0.6, SIZE[1], 3.3):
        _fill(image, 0.9, 2.9, left, left + 1.9, (74, 82, 92))
        _fill(image, 1.0, 2.8, left + 0.1, left + 1.8, (104, 116, 126) + rng.normal(0, 10, 3))
        _fill(image, 1.3, 2.2, left + 2.25, left + 2.85, rng.uniform(90, 200, 3))
    _fill(image, HORIZON, SIZE[0], 0, SIZE[1], (140, 139, 138))
    _fill(image, HORIZON, HORIZON + 0.35, 0, SIZE[1], (150, 148, 144))
    _fill(image, HORIZON + 1.9, HORIZON + 2.0, 0, SIZE[1], (196, 194, 186))
    return _weathered(rng, image, 0.12, 0.04)


_PAINTERS = {"plaza": _plaza, "park": _park, "hall": _hall, "street": _street}
