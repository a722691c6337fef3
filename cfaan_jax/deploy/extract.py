"""Features of a folder of tracklets as files, and a search in them: `--mode=extract` and `--mode=search`."""

import csv
import hashlib
import io
import json
import shutil
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cfaan_jax import weights
from cfaan_jax.data import splits
from cfaan_jax.data.manifest import MANIFEST, load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.storage import is_address
from cfaan_jax.data.tracklet_record import SPLITS
from cfaan_jax.deploy.feature_extractor import FeatureExtractor
from cfaan_jax.errors import InputError, reason
from cfaan_jax.metrics.distances import DISTANCES, normalize_for, pairwise
from cfaan_jax.models import VideoReID
from cfaan_jax.runtime import distributed, lock
from cfaan_jax.runtime.files import atomic_folder, parse_json
from cfaan_jax.runtime.text_tables import TableContent

FEATURES, IDS, ABOUT = "features.npy", "ids.csv", "about.json"
PARQUET = "features.parquet"  # the content of the other three
FORMATS = ("npy", "parquet")
_FILES = (FEATURES, IDS, ABOUT, PARQUET)
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp")


class Extracted(NamedTuple):
    """The content of a folder that `extract` wrote."""

    ids: list[str]  # of N tracklets
    features: np.ndarray  # float32 [N, D], not normalised
    about: dict  # "network", "weights", their "fingerprint", "clips" and "distance"


def extract(model: VideoReID, config: ConfigDict, source: str | Path, folder: str | Path, which: str,
            form: str = "npy") -> Path:
    """Writes the features of all tracklets in a folder: `features.npy`, `ids.csv` (row, id) and `about.json`.

    Several processes share the work; the first one writes, and replaces an older folder. `source` is a record set, or a
    folder with a folder of images for every tracklet, sorted by name. `which` names the weights. "parquet" writes
    `features.parquet` in place of the three files.

    Raises:
        InputError: no tracklets in `source`, an unreadable image, other files in `folder`, or no pyarrow for Parquet.
    """
    folder = Path(folder)
    check_out(folder)
    if form == "parquet":
        _parquet()  # before the work, not after it
    with distributed.exclusive(lock.path_for(folder), "extracts"):
        extractor = FeatureExtractor(
            model, clip_length=config.data.clip_length, image_size=config.data.image_size, clips=config.eval.clips,
            batch_size=config.eval.batch, workers=config.data.workers)
        parts = [extractor(tracklets) for tracklets in _tracklets(source, config.data)]
        about = dict(network=config.model.name, weights=which, fingerprint=_fingerprint(model), clips=config.eval.clips,
                     distance=config.eval.distance)
        extracted = Extracted([name for part in parts for name in part.ids],
                              np.concatenate([part.features for part in parts]), about)
        distributed.run_in_first_process(lambda: write(folder, extracted, form))
    return folder


def check_out(folder: Path) -> None:
    """InputError for a folder that holds other files than extracted features, which writing would delete."""
    if not folder.name:
        raise InputError(f"--out={folder}: name a new folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out={folder}: is a file; name a new folder")
    if folder.is_dir() and (others := {path.name for path in folder.iterdir()} - set(_FILES)):
        raise InputError(f"--out={folder}: holds {min(others)}, which is not part of extracted features; name a new "
                         "folder")


def write(folder: Path, extracted: Extracted, form: str = "npy") -> None:
    """Writes a folder that `read` reads, in one of `FORMATS`; it replaces an older one, whose other files stay."""
    files = _as_parquet(extracted) if form == "parquet" else _as_npy(extracted)
    with atomic_folder(folder) as unfinished:
        for other in (path for path in (folder.iterdir() if folder.is_dir() else ()) if path.name not in _FILES):
            (shutil.copytree if other.is_dir() else shutil.copy2)(other, unfinished / other.name)
        for name, content in files.items():
            (unfinished / name).write_bytes(content)


def format_of(folder: Path) -> str | None:
    """Which of `FORMATS` a folder of features has; None for another folder."""
    if (folder / PARQUET).exists():
        return "parquet"
    return "npy" if (folder / FEATURES).exists() and (folder / IDS).exists() else None


def _as_npy(extracted: Extracted) -> dict[str, bytes]:
    features, table = io.BytesIO(), io.StringIO()
    np.save(features, extracted.features)  # np.save to a file ignores a disk that is full at the end
    csv.writer(table, lineterminator="\n").writerows([("row", "id"), *enumerate(extracted.ids)])
    return {FEATURES: features.getvalue(), IDS: table.getvalue().encode(),
            ABOUT: (json.dumps(extracted.about, indent=2) + "\n").encode()}


def _as_parquet(extracted: Extracted) -> dict[str, bytes]:
    arrow, parquet = _parquet()
    rows = arrow.FixedSizeListArray.from_arrays(arrow.array(extracted.features.ravel()), extracted.features.shape[1])
    table = arrow.table({"id": arrow.array(extracted.ids, arrow.string()), "feature": rows}, metadata={
        "about": json.dumps(extracted.about)})
    content = io.BytesIO()
    parquet.write_table(table, content)
    return {PARQUET: content.getvalue()}


def _parquet():
    """The modules that write and read Parquet."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError("features as Parquet need pyarrow: pip install pyarrow") from None
    return pyarrow, parquet


def _fingerprint(model: VideoReID) -> str:
    """A hash of the weights."""
    digest = hashlib.sha256()
    for name, array in sorted(weights.to_torch(model).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def _tracklets(source: str | Path, data: ConfigDict) -> list[RecordSet | dict[str, list[Path]]]:
    """Arguments for a `FeatureExtractor`: one for every split of records, or one for all folders of images."""
    if is_address(source) or (Path(source) / MANIFEST).exists():
        counts = load_manifest(source)["counts"]
        if not counts:
            raise InputError(f"{source}: these records hold no tracklets; build some, or name another folder")
        return [splits.open_split(source, split, data) for split in SPLITS if counts.get(split)]
    source = Path(source)
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; name records, or a folder with a folder of images for every "
                         "tracklet")
    tracklets = {folder.name: sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGES)
                 for folder in sorted(source.iterdir()) if folder.is_dir()}
    if unwritable := [name for name in tracklets if {"Cc", "Cs"} & set(map(unicodedata.category, name))]:
        raise InputError(f"{source}: holds a folder {unwritable[0]!r}; rename it, ids are UTF-8 without control codes")
    if not (tracklets := {name: paths for name, paths in tracklets.items() if paths}):
        raise InputError(f"{source}: holds neither records nor folders of images ({', '.join(_IMAGES)}); put the "
                         "images of every tracklet into a folder of its own")
    return [tracklets]


def read(folder: str | Path) -> Extracted:
    """Reads a folder that `extract` wrote; InputError for another folder, or a damaged one."""
    folder = Path(folder)
    try:
        ids, features, about = (_from_parquet if format_of(folder) == "parquet" else _from_npy)(folder)
        if features.ndim != 2 or len(features) != len(ids) or about["distance"] not in DISTANCES:
            raise ValueError(f"features of shape {features.shape} for {len(ids)} ids")
        if features.dtype.kind != "f" or not features.shape[1] or not np.isfinite(features).all():
            raise ValueError(f"features of {features.dtype} {list(features.shape)}, which must be finite numbers")
    # Damaged arrays and tables raise errors of many kinds.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, csv.Error) as error:
        raise InputError(f"{folder}: no readable features ({reason(error)}); --mode=extract writes them") from error
    return Extracted(ids, features, about)


def _from_npy(folder: Path) -> Extracted:
    features = np.load(folder / FEATURES, allow_pickle=False)
    with (folder / IDS).open(newline="", encoding="utf-8") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    return Extracted(ids, features, parse_json((folder / ABOUT).read_text()))


def _from_parquet(folder: Path) -> Extracted:
    arrow, parquet = _parquet()
    try:
        table = parquet.read_table(folder / PARQUET, columns=["id", "feature"])
        rows, kind = table["feature"].combine_chunks(), table.schema.field("feature").type
        if not arrow.types.is_fixed_size_list(kind) or kind.value_type != arrow.float32() or rows.null_count:
            raise ValueError(f"features of type {kind}")
        features = rows.flatten().to_numpy().reshape(len(rows), kind.list_size)
        return Extracted(table["id"].to_pylist(), features, parse_json(table.schema.metadata[b"about"]))
    except arrow.ArrowException as error:
        raise ValueError(error) from error


def search(query: Extracted, gallery: Extracted, count: int) -> TableContent:
    """A table of the `count` nearest gallery tracklets of every query, equal ids included.

    InputError for features of two networks.
    """
    if query.about != gallery.about or query.features.shape[1] != gallery.features.shape[1]:
        raise InputError(f"the query's features come from {query.about}, the gallery's from {gallery.about};\n"
                         "extract both with one network")
    distance = query.about["distance"]
    gallery_features, rows = normalize_for(distance, gallery.features), []
    for name, feature in zip(query.ids, normalize_for(distance, query.features), strict=True):
        distances = pairwise(distance, feature[None], gallery_features)[0]
        nearest = np.argsort(distances, kind="stable")[:count]
        values = -distances[nearest] if distance == "cosine" else distances[nearest]
        rows += [[name, str(rank), gallery.ids[row], f"{value:.4f}"]
                 for rank, (row, value) in enumerate(zip(nearest, values, strict=True), start=1)]
    measure = "cosine" if distance == "cosine" else "squared distance"
    return TableContent(["query", "rank", "tracklet", measure], rows, [])
