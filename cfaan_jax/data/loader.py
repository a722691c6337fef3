"""Batches of clips from a record set, read ahead of the device by Grain's threads.

Each kind of batch is a random-access source: `source[i]` is a pure function of its settings and of i. So the state of
reading is one integer, and a resumed run reads the batches that an uninterrupted run would have read.
"""

from collections.abc import Iterator

import grain
import numpy as np

from cfaan_jax.data.clips import test_clips, train_clips
from cfaan_jax.data.reading import read_clips
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.samplers import IdentitySampler
from cfaan_jax.data.tracklets import ImageTracklets


class TrainBatches:
    """Training batches: P identities x K tracklets, one clip of T frames from each.

    `batches[step]` is a dict of frames uint8 `[B, T, H, W, 3]`, rectangles int32 `[B, T, 4]` in pixels of `image_size`
    and labels int32 `[B]`. It depends on the sampler (and its seed) and the step only.

    Args:
        steps: number of batches in the whole training.
        sampling: of the frames, see `clips.train_clips`.
        rows: the rows of every batch that this process reads; the arrays hold these rows alone.
    """

    def __init__(self, records: RecordSet, sampler: IdentitySampler, clip_length: int, image_size: tuple[int, int],
                 steps: int, sampling: str = "restricted", rows: slice = slice(None)):
        self._records, self._sampler, self._steps, self._sampling = records, sampler, steps, sampling
        self._clip_length, self._image_size, self._rows = clip_length, image_size, rows

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((1, self._sampler.seed, step))
        positions = self._sampler.batch(step)
        # One random stream serves the whole batch, so all rows are drawn, whichever rows are read.
        clips = train_clips(self._records.lengths[positions], self._clip_length, rng, self._sampling)
        positions, clips = positions[self._rows], clips[self._rows]
        frames, rectangles = read_clips(self._records, positions, clips, self._image_size)
        return {"frames": frames, "rectangles": rectangles, "labels": self._sampler.labels[positions].astype(np.int32)}


class ClipBatches:
    """The clips of every tracklet, in order, for evaluation.

    Iterating gives dicts of frames uint8 `[B, T, H, W, 3]`, rectangles int32 `[B, T, 4]` in pixels of `image_size` and
    tracklet int32 `[B]`: the position in the record set, -1 for padding at the end. `batches[i]` gives one batch.
    Clips shorter than T (mode "dense_cut", see `clips.test_clips`) follow the others, in batches of one length each.
    `workers` threads read. `rows` are those of every batch that this process reads: frames and rectangles hold these.
    """

    def __init__(self, records: RecordSet | ImageTracklets, mode: str, clip_length: int, image_size: tuple[int, int],
                 batch_size: int, workers: int = 2, rows: slice = slice(None)):
        clips = [test_clips(int(length), clip_length, mode) for length in records.lengths]
        self._indices = np.concatenate(clips)
        self._tracklets = np.repeat(np.arange(len(clips)), [len(indices) for indices in clips])
        self._records, self._image_size, self._workers = records, image_size, workers
        self._batch_size, self._rows = batch_size, range(batch_size)[rows]
        lengths = (self._indices >= 0).sum(1)
        self._batches = [(int(length), same[start:start + batch_size]) for length in np.unique(lengths)[::-1]
                         for same in [np.flatnonzero(lengths == length)] for start in range(0, len(same), batch_size)]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        length, clips = self._batches[index]
        tracklet = np.full(self._batch_size, -1, np.int32)
        tracklet[:len(clips)] = self._tracklets[clips]
        local = clips[self._rows.start:self._rows.stop]
        frames, rectangles = read_clips(self._records, self._tracklets[local], self._indices[local, :length],
                                        self._image_size)
        if padding := len(self._rows) - len(local):
            frames = np.concatenate([frames, np.zeros((padding, *frames.shape[1:]), np.uint8)])
            whole = np.array([0, self._image_size[0], 0, self._image_size[1]], np.int32)
            rectangles = np.concatenate([rectangles, np.tile(whole, (padding, length, 1))])
        return {"frames": frames, "rectangles": rectangles, "tracklet": tracklet}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return read_ahead(self, 0, self._workers)


def read_ahead(batches: TrainBatches | ClipBatches, start: int, workers: int) -> Iterator[dict[str, np.ndarray]]:
    """Iterates over `batches[start:]` in order; each of `workers` threads reads up to two batches ahead."""
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    return iter(grain.MapDataset.source(batches)[start:].to_iter_dataset(options))
