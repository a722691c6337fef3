"""Pages: a folder of static files that opens from disk, needs no network and can be sent as it is.

Every page extends `templates/base.html`, whose Content-Security-Policy lets it load files of its own folder only. Data
for a script is a script itself, because a page opened from disk may not fetch.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import jinja2
import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from PIL import Image

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import atomic_folder, parse_json

_TEMPLATES = Path(__file__).parent / "templates"
_STYLE = "style.css"
_CONTENT = "files.json"  # lists the files of the pages, so that no other file is ever deleted
_JPEG_QUALITY = 85


class PageFolder:
    """A folder of pages that is being written; what writes a file returns the name by which a page refers to it.

    `path` is empty; `site` has file and label of every page, for the links; `about` is the line under every heading;
    `templates` holds templates and static files beside the shared ones.
    """

    def __init__(self, path: Path, site: Mapping[str, str], about: str, templates: Path = _TEMPLATES):
        self._path, self.files, self._written = path, tuple(site), []
        self._loader = jinja2.FileSystemLoader([templates, _TEMPLATES])
        self._environment = jinja2.Environment(loader=self._loader, autoescape=True, undefined=jinja2.StrictUndefined,
                                               trim_blocks=True, lstrip_blocks=True)
        self._environment.globals.update(site=dict(site), about=about)
        self.static(_STYLE)

    def page(self, name: str, scripts: Sequence[str] = (), **values) -> str:
        """Writes the page of the template `name`; `scripts` run in this order, and `values` are escaped."""
        html = self._environment.get_template(name).render(file=name, scripts=scripts, **values)
        return self._write(name, html)

    def static(self, name: str) -> str:
        """Copies a file that lies beside the templates."""
        return self._write(name, self._loader.get_source(self._environment, name)[0])

    def data(self, name: str, value) -> str:
        """Writes a script that sets `pageData[name]` to JSON's types; no character in the value can end the script."""
        key, value = htmlsafe_json_dumps(name), htmlsafe_json_dumps(value)
        return self._write(f"{name}.js", f"(globalThis.pageData ??= {{}})[{key}] = {value};\n")

    def picture(self, name: str, frame: np.ndarray) -> str:
        """Writes uint8 `[h, w, 3]` RGB as a JPEG file; `name` must not come from the data."""
        name = f"frames/{name}.jpg"
        path = self.file(name)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(frame).save(path, quality=_JPEG_QUALITY)
        return name

    def file(self, name: str) -> Path:
        """Where to write a file that belongs to these pages."""
        self._written.append(name)
        return self._path / name

    def close(self) -> None:
        """Writes the list of the files that belong to these pages."""
        content = {"first": self.files[0], "files": sorted(set(self._written))}
        (self._path / _CONTENT).write_text(json.dumps(content))

    def _write(self, name: str, text: str) -> str:
        self.file(name).write_bytes(text.encode())
        return name


@contextmanager
def pages(folder: Path, site: Mapping[str, str], about: str, templates: Path = _TEMPLATES) -> Iterator[PageFolder]:
    """Opens a folder of pages, which replaces an older one when it is complete; files of others beside them stay.

    `site`, `about`, `templates`: see `PageFolder`. InputError: see `check`.
    """
    folder = folder.absolute()
    foreign = check(folder, next(iter(site)))
    with atomic_folder(folder) as path:
        page_folder = PageFolder(path, site, about, templates)
        yield page_folder
        page_folder.close()
        for name in foreign:
            if not (path / name).exists():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(folder / name, path / name)


def check(folder: Path, first: str) -> list[str]:
    """Files in a folder that do not belong to its pages, of which `first` is the file of the first one.

    Raises InputError where the folder holds something else than these pages, or cannot be written.
    """
    foreign = []
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        own, first_there = _listed(folder)
        if first_there != first:
            raise _not_pages(folder)
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        foreign = sorted(files - own)
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder.absolute().parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise InputError(f"{folder}: cannot be written; name another folder")
    return foreign


def delete(folder: Path) -> None:
    """Deletes the pages in a folder, and the folder if nothing else lies in it; InputError if it holds no pages."""
    own, _ = _listed(folder)
    # Names come from the folder, not from the list: the list may name files anywhere.
    paths = sorted(folder.rglob("*"), reverse=True)  # a folder after its files
    for path in paths:
        if not path.is_dir() and path.relative_to(folder).as_posix() in own - {_CONTENT}:
            path.unlink()
    (folder / _CONTENT).unlink()  # last, so that the same call can finish what was interrupted
    for path in (*paths, folder):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()


def holds_pages(folder: Path) -> bool:
    """Whether a folder holds pages."""
    try:
        return bool(_listed(folder))
    except InputError:
        return False


def _listed(folder: Path) -> tuple[set[str], str]:
    """The files that belong to the pages in a folder, and the first page."""
    try:
        content = parse_json((folder / _CONTENT).read_text())
        return {_CONTENT, *content["files"]}, content["first"]
    except (OSError, ValueError, KeyError, TypeError):
        raise _not_pages(folder) from None


def _not_pages(folder: Path) -> InputError:
    return InputError(f"{folder} holds something else than these pages, so it is not replaced; name another folder or "
                      "move this one")
