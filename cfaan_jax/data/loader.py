"""Batches of clips from a record set, decoded by threads ahead of the device.

Each kind of batch is a random-access source: `source[i]` is a pure function of its settings and of i. So the whole
state of reading is one integer, and a resumed run sees the batches that it would have seen.
"""

import sys
import threading
from collections.abc import Iterator

import grain
import numpy as np
from PIL import Image

from cfaan_jax.data.clips import test_clips, train_clips
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.samplers import IdentitySampler


class _Memory:
    """Arrays that are given out again once nobody holds them or a part of them: fresh memory costs a tenth of decoding.

    What nobody holds would be freed, and its memory given to somebody else, just the same: this only comes before. JAX
    holds what it was given until it needs it no more, also where it copies nothing.
    """

    _KEPT = 64  # arrays

    def __init__(self):
        self._arrays, self._lock = [], threading.Lock()

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array of that shape, uint8, with any content."""
        with self._lock:
            for array in self._arrays:
                if array.shape == shape and sys.getrefcount(array) == 3:  # in the list, in `array`, in this call
                    return array
            fresh = np.empty(shape, np.uint8)
            if len(self._arrays) < self._KEPT:
                self._arrays.append(fresh)
            return fresh


class TrainBatches:
    """Training batches: P identities x K tracklets, one clip of T frames from each.

    `batches[step]` is a dict of frames uint8 `[B, T, H, W, 3]`, rectangles int32 `[B, T, 4]` in pixels of `image_size`
    and labels int32 `[B]`. It depends on the sampler (and its seed) and the step only.

    Args:
        records: the training split.
        sampler: draws the tracklets.
        clip_length: T.
        image_size: (H, W) that the network sees.
        steps: number of batches in the whole training.
        sampling: of the frames, see `clips.train_clips`.
        rows: which rows of every batch are read, side by side; all arrays hold these alone.
    """

    def __init__(self, records: RecordSet, sampler: IdentitySampler, clip_length: int, image_size: tuple[int, int],
                 steps: int, sampling: str = "restricted", rows: slice = slice(None)):
        self._records, self._sampler, self._steps, self._sampling = records, sampler, steps, sampling
        self._clip_length, self._image_size, self._rows = clip_length, tuple(image_size), rows
        self._memory = _Memory()

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((1, self._sampler.seed, step))
        positions = self._sampler.batch(step)
        # All rows are drawn, whichever are read, since one random stream goes through the batch; and all at once, since
        # each draw lets the other threads go first.
        clips = train_clips(self._records.lengths[positions], self._clip_length, rng, self._sampling)
        positions, clips = positions[self._rows], clips[self._rows]
        frames = self._memory.take((*clips.shape, *self._image_size, 3))
        rectangles = np.empty((*clips.shape, 4), np.int32)
        for row, (position, indices) in enumerate(zip(positions, clips, strict=True)):
            rectangles[row] = read_into(frames[row], self._records, position, indices)
        return {"frames": frames, "rectangles": rectangles, "labels": self._sampler.labels[positions].astype(np.int32)}


class ClipBatches:
    """The clips of every tracklet, in order, for evaluation.

    Iterating gives dicts of frames uint8 `[B, T, H, W, 3]`, rectangles int32 `[B, T, 4]` in pixels of `image_size` and
    tracklet int32 `[B]`: the position in the record set, -1 for what fills up the last batch. `batches[i]` gives one.
    Clips shorter than T, which one mode has, come behind the others, in batches of one length each.

    Args:
        records: any split, or `data.tracklets.ImageTracklets`.
        mode: which clips, see `clips.test_clips`.
        clip_length: T.
        image_size: (H, W) that the network sees.
        batch_size: B.
        workers: reading threads.
        rows: which rows of every batch are read, side by side; frames and rectangles hold these alone.
    """

    def __init__(self, records: RecordSet, mode: str, clip_length: int, image_size: tuple[int, int], batch_size: int,
                 workers: int = 2, rows: slice = slice(None)):
        clips = [test_clips(int(length), clip_length, mode) for length in records.lengths]
        self._indices = np.concatenate(clips)
        self._tracklets = np.repeat(np.arange(len(clips)), [len(each) for each in clips])
        self._records, self._image_size = records, tuple(image_size)
        self._batch_size, self._workers, self._memory = batch_size, workers, _Memory()
        self._rows = range(batch_size)[rows]
        lengths = (self._indices >= 0).sum(1)
        self._batches = [(int(length), same[start:start + batch_size]) for length in np.unique(lengths)[::-1]
                         for same in [np.flatnonzero(lengths == length)] for start in range(0, len(same), batch_size)]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        (height, width), (length, clips) = self._image_size, self._batches[index]
        shape = (len(self._rows), length)
        frames = self._memory.take((*shape, height, width, 3))
        rectangles = np.tile(np.array([0, height, 0, width], np.int32), (*shape, 1))
        tracklet = np.full(self._batch_size, -1, np.int32)
        tracklet[:len(clips)] = self._tracklets[clips]
        for row, clip in enumerate(clips[self._rows.start:self._rows.stop]):
            rectangles[row] = read_into(frames[row], self._records, self._tracklets[clip], self._indices[clip, :length])
        frames[max(len(clips) - self._rows.start, 0):] = 0
        return {"frames": frames, "rectangles": rectangles, "tracklet": tracklet}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return read_ahead(self, 0, self._workers)


def read_ahead(batches, start: int, workers: int) -> Iterator[dict[str, np.ndarray]]:
    """Iterates over `batches[start:]` in order; `workers` threads read ahead of the caller, two batches each."""
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    return iter(grain.MapDataset.source(batches)[start:].to_iter_dataset(options))


def read_clip(records: RecordSet, position: int, indices: np.ndarray,
              image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Reads one clip.

    Args:
        records: the record set.
        position: of the tracklet in it.
        indices: int `[T]`, which frames.
        image_size: (H, W). A stored frame of another size is resized as Pillow does it, bilinear and antialiased, and
            its rectangle with it, outwards to whole pixels.

    Returns:
        frames uint8 `[T, H, W, 3]`, RGB, and rectangles int32 `[T, 4]`.

    Raises:
        InputError: a frame that cannot be decoded.
    """
    frames = np.empty((len(indices), *image_size, 3), np.uint8)
    return frames, read_into(frames, records, position, indices)


def read_into(frames: np.ndarray, records: RecordSet, position: int, indices: np.ndarray) -> np.ndarray:
    """As `read_clip`, but into given frames, uint8 `[T, H, W, 3]`, so that nothing is copied. Returns rectangles."""
    position, image_size, wanted = int(position), frames.shape[1:3], indices.tolist()
    sizes = [(height, width) for height, width in records.image_sizes(position)[indices].tolist()]
    rows = {k: row for row, k in enumerate(wanted)}  # the last one of each: a short tracklet repeats frames
    fitting = {k: row for k, row in rows.items() if sizes[row] == image_size}
    records.images_into([frames[row] for row in fitting.values()], position, [*fitting])
    for k in rows.keys() - fitting.keys():
        frames[rows[k]] = _resized(records.image(position, k), image_size)
    for row, k in enumerate(wanted):
        if row != rows[k]:
            frames[row] = frames[rows[k]]
    rectangles = records.rectangles(position)[indices]
    return rectangles if len(fitting) == len(rows) else _scale(rectangles, np.array(sizes), image_size)


def _resized(image: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    height, width = image_size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _scale(rectangles: np.ndarray, stored: np.ndarray, wanted: tuple[int, int]) -> np.ndarray:
    """Rectangles `[T, 4]` in frames of stored sizes `[T, 2]`, brought to the wanted size, outwards to whole pixels."""
    (height, width), (new_height, new_width) = stored.T, wanted
    y0, y1, x0, x1 = rectangles.T
    scaled = [y0 * new_height // height, -(-y1 * new_height // height),
              x0 * new_width // width, -(-x1 * new_width // width)]
    return np.stack(scaled, axis=-1).astype(np.int32)
