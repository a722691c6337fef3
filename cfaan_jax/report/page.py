"""Pages: a folder of static files that opens from disk, asks nothing of the network and can be sent as it is.

Every page extends `templates/base.html`, which gives it `style.css`, light and dark, links to its neighbours, and a
Content-Security-Policy that lets it load files of its own folder only. Data for a script is a script itself, because a
page opened from disk may not fetch.
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

_TEMPLATES = [Path(__file__).parent / folder for folder in ("templates", "label_review")]
_STYLE = "style.css"
_CONTENT = "files.json"  # lists what was written here, so that nothing else is ever lost
_JPEG_QUALITY = 85


class PageFolder:
    """A folder of pages that is being written; what writes a file gives the name by which a page refers to it.

    Attributes:
        files: of all pages.

    Args:
        path: an empty folder.
        site: file and label of every page, for the links between them.
        about: what every page says under its heading.
    """

    def __init__(self, path: Path, site: Mapping[str, str], about: str):
        self._path, self.files, self._written = path, tuple(site), []
        self._environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True,
                                               undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        self._environment.globals.update(site=dict(site), about=about)
        self.static(_STYLE)

    def page(self, name: str, scripts: Sequence[str] = (), **values) -> str:
        """Writes the page of the template of that name.

        Args:
            name: one of the files in `site`.
            scripts: names of script files, in the order in which they run.
            **values: for the template; text is escaped there.
        """
        html = self._environment.get_template(name).render(file=name, scripts=scripts, **values)
        return self._write(name, html.encode())

    def static(self, name: str) -> str:
        """Copies a file that lies beside the templates."""
        return self._write(name, next(path for folder in _TEMPLATES if (path := folder / name).exists()).read_bytes())

    def data(self, name: str, value) -> str:
        """Writes a script that sets `pageData[name]`; `value` is anything that JSON can hold.

        No character in it can end a script or a comment, wherever the text is put.
        """
        key, value = (htmlsafe_json_dumps(each) for each in (name, value))
        return self._write(f"{name}.js", f"(globalThis.pageData ??= {{}})[{key}] = {value};\n".encode())

    def picture(self, name: str, frame: np.ndarray) -> str:
        """Writes uint8 `[h, w, 3]` RGB as a JPEG file; give it a number for a name, never one from the data."""
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
        """Writes down which files belong here."""
        content = {"first": self.files[0], "files": sorted(set(self._written))}
        (self._path / _CONTENT).write_text(json.dumps(content))

    def _write(self, name: str, content: bytes) -> str:
        self.file(name).write_bytes(content)
        return name


@contextmanager
def pages(folder: Path, site: Mapping[str, str], about: str) -> Iterator[PageFolder]:
    """Opens a folder of pages that is there, and takes the place of an older one, when all of it is written.

    Args:
        folder: where. Files that somebody put beside older pages stay there.
        site, about: see `PageFolder`.
    Raises:
        InputError: something else lies there, or nothing can be written there.
    """
    folder = folder.absolute()
    foreign = check(folder, next(iter(site)))
    with atomic_folder(folder) as path:
        one = PageFolder(path, site, about)
        yield one
        one.close()
        for name in foreign:
            if not (path / name).exists():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(folder / name, path / name)


def check(folder: Path, first: str) -> list[str]:
    """Files in a folder that were not written with its pages; InputError where `pages` would refuse it.

    Args:
        folder: where pages are to be.
        first: file of the first of them.
    """
    foreign = _foreign(folder, first)
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder.absolute().parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise InputError(f"{folder}: nothing can be written there; name another folder")
    return foreign


def delete(folder: Path) -> None:
    """Deletes the pages in a folder, what they show, and the folder if nothing else lies in it.

    Raises:
        InputError: it holds no pages.
    """
    own, _ = _listed(folder)
    # From the files that are there: what a list of them says may lie anywhere.
    there = sorted(folder.rglob("*"), reverse=True)  # a folder behind what lies in it
    for path in there:
        if not path.is_dir() and path.relative_to(folder).as_posix() in own - {_CONTENT}:
            path.unlink()
    (folder / _CONTENT).unlink()  # the last one: until then the same call finishes it
    for path in (*there, folder):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()


def is_one(folder: Path) -> bool:
    """Whether a folder holds pages."""
    try:
        return bool(_listed(folder))
    except InputError:
        return False


def _foreign(folder: Path, first: str) -> list[str]:
    """Files in a folder of pages that were not written with them."""
    if not folder.exists() or folder.is_dir() and not any(folder.iterdir()):
        return []
    own, found = _listed(folder)
    if found != first:
        raise _no_pages(folder)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return sorted(there - own)


def _listed(folder: Path) -> tuple[set[str], str]:
    """The files that were written with the pages in a folder, and the first page."""
    try:
        content = parse_json((folder / _CONTENT).read_text())
        return {_CONTENT, *content["files"]}, content["first"]
    except (OSError, ValueError, KeyError, TypeError):
        raise _no_pages(folder) from None


def _no_pages(folder: Path) -> InputError:
    return InputError(f"{folder} is there and holds no such pages, so it is not replaced; name another folder or move "
                      "this one away")
