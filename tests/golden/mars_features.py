"""Deterministic stand-in features for the 12,180 test tracklets of MARS (numpy only).

    features, copy_of = make(pid, cam, seed, setting)

`pid`, `cam`: columns 3 and 4 of `track_test_info` (file order, values as stored: pid -1 = junk, 0 = distractor,
cam 1..6). `seed` and `setting` are in the meta entry of the file with the expected numbers. Settings: `noise` (a table
from which each tracklet's noise weight is drawn), weights of `identity`, `camera` and `view` (identity within camera),
per-cent of distractors that copy a real tracklet of their own camera (`same`) or of any camera (`other`), per-cent of
junk tracklets that copy one of their own camera (`junk`).
Result: float32 (tracklets, 128), and for every tracklet the row it is a near copy of (-1: none).

Everything is integer arithmetic on the raw output of the PCG64 generator, so the result does not depend on the
platform, on libm or on the numpy version. The features are multiples of 1/1024 and every row has L2 norm exactly 1:
dimensions 0..123 hold the truncated unit vector, dimensions 124..127 fill the squared norm up to exactly 1 (Lagrange's
four squares). Consequences: a product of two rows is a multiple of 2**-20 and is exact in float32 in any order of
summation (not in bfloat16 / TF32: ask for full float32 products); normalising again changes nothing; minus the product,
the squared Euclidean distance (2 - 2 * product) and the Euclidean distance give the same ranking with the same ties.
"""
import math

import numpy as np

DIM = 124


def _raw(seed, stream, n):
    return np.random.PCG64(np.random.SeedSequence([seed, stream])).random_raw(int(n))


def _bell(seed, stream, rows):
    """(rows, DIM) integers, roughly normal, standard deviation about 37,800: sum of four 16-bit numbers"""
    r = _raw(seed, stream, rows * DIM)
    total = sum(((r >> np.uint64(s)) & np.uint64(0xFFFF)).astype(np.int64) for s in (0, 16, 32, 48))
    return (total - 131070).reshape(rows, DIM)


def _below(seed, stream, n, limit):
    """n integers in [0, limit)"""
    return (_raw(seed, stream, n) % np.uint64(limit)).astype(np.int64)


def _four_squares(values):
    """{n: (a, b, c, d)} with a*a + b*b + c*c + d*d = n"""
    top = int(max(values))
    two = [None] * (top + 1)
    for a in range(math.isqrt(top) + 1):
        for b in range(a + 1):
            if a * a + b * b <= top and two[a * a + b * b] is None:
                two[a * a + b * b] = (a, b)
    out = {}
    for n in sorted(set(int(v) for v in values)):
        for s in range(n // 2, -1, -1):
            if two[s] is not None and two[n - s] is not None:
                out[n] = two[s] + two[n - s]
                break
    return out


def make(pid, cam, seed, setting):
    p = setting
    pid = np.asarray(pid, np.int64)
    cam = np.asarray(cam, np.int64)
    n = len(pid)
    ids = np.unique(pid[pid > 0])
    copy_of = np.full(n, -1, np.int64)
    real = np.flatnonzero(pid > 0)
    dice = _below(seed, 1, n, 100)
    pick = _raw(seed, 2, n)
    for c in range(1, 7):
        pool = np.flatnonzero((pid > 0) & (cam == c))
        rows = np.flatnonzero((cam == c) & (((pid == 0) & (dice < p['same'])) | ((pid == -1) & (dice < p['junk']))))
        copy_of[rows] = pool[(pick[rows] % np.uint64(len(pool))).astype(np.int64)]
    rows = np.flatnonzero((pid == 0) & (dice >= p['same']) & (dice < p['same'] + p['other']))
    copy_of[rows] = real[(pick[rows] % np.uint64(len(real))).astype(np.int64)]

    source = np.where(copy_of >= 0, copy_of, np.arange(n))          # whose identity and view a tracklet shows
    centre = _bell(seed, 3, len(ids))
    view = _bell(seed, 4, len(ids) * 6)
    camera = _bell(seed, 5, 6)
    alone = _bell(seed, 6, n)                                       # "identity" of tracklets that have none
    noise = _bell(seed, 7, n)
    weight = np.asarray(p['noise'], np.int64)[_below(seed, 8, n, len(p['noise']))]

    has = pid[source] > 0
    i = np.searchsorted(ids, np.where(has, pid[source], ids[0]))
    x = np.where(has[:, None], p['identity'] * centre[i] + p['view'] * view[i * 6 + cam[source] - 1],
                 (p['identity'] + 1) * alone)
    x = x + p['camera'] * camera[cam - 1] + weight[:, None] * noise

    norm = np.array([math.isqrt(int(v)) + 1 for v in (x * x).sum(1)], np.int64)
    v = np.sign(x) * ((np.abs(x) * 1024) // norm[:, None])
    rest = 2 ** 20 - (v * v).sum(1)
    table = _four_squares(rest)
    fill = np.array([table[int(r)] for r in rest], np.int64)
    sign = 1 - 2 * _below(seed, 9, n * 4, 2).reshape(n, 4)
    out = np.concatenate([v, fill * sign], 1)
    assert ((out * out).sum(1) == 2 ** 20).all()
    return (out.astype(np.float32) / np.float32(1024)), copy_of
