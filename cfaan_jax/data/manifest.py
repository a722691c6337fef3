"""The manifest of a folder of records: how it was made, and what it holds."""

from pathlib import Path

from cfaan_jax.data import storage
from cfaan_jax.data.index import index_path
from cfaan_jax.data.tracklet_record import SCHEMA_VERSION, SPLITS
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import parse_json

MANIFEST = "manifest.json"
_FIELDS = {"dataset": str, "note": str, "aligned": bool, "counts": dict, "settings": dict}


def load_manifest(directory: str | Path) -> dict:
    """Reads the manifest, which is written last; InputError if it is missing, damaged or of another version."""
    folder = storage.open_folder(directory)
    path = folder.path(MANIFEST)
    try:
        content = folder.read(MANIFEST)
    except storage.MissingFile:
        raise InputError(f"{path} is missing: {directory} holds no finished records; make them with "
                         "data_prep/build_tfrecords.py, or name the folder where they are") from None
    try:
        manifest = parse_json(content)
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error}); restore it, or build the records again into "
                         "another folder") from None
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path}: schema version {version!r}, this program reads {SCHEMA_VERSION}; build the records "
                         "again into another folder")
    files = folder.sizes()
    if not _is_sound(manifest) or any(index_path("", split).name in files and split not in manifest["counts"]
                                      for split in SPLITS):
        raise InputError(f"{path}: damaged, it does not describe the files beside it; restore it, or build the "
                         "records again into another folder")
    return manifest


def _is_sound(manifest: dict) -> bool:
    return all(isinstance(manifest.get(name), kind) for name, kind in _FIELDS.items()) and all(
        split in SPLITS and isinstance(count, dict) and isinstance(count.get("tracklets"), int)
        for split, count in manifest["counts"].items())
