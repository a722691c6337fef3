"""The documentation as a site: it builds without a warning, loads nothing from elsewhere, and names what is there."""

import pkgutil
import re

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from cfaan_jax.experiment.config import flatten
from configs import mars
from tests.documented import PAGES, REPOSITORY, inside

_PATH = re.compile(r"(cfaan_jax|configs|data_prep|docs|launch|tests|benchmarks)/[\w/.-]+(::\w+)?")
_TO_BE_MADE = {"cfaan_jax/models/smoothing.py"}  # by whoever follows docs/new_system.md
_NAME = re.compile(r"(cfaan_jax|data_prep)(\.\w+)+")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Without dead links and anchors, or pages that the navigation lacks: these are warnings, and so errors."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def test_every_page_is_there_and_loads_nothing_from_elsewhere(site):
    pages = {path.stem: path.read_text() for path in site.glob("*.html")}
    assert {"index", *(page.stem for page in PAGES[1:])} <= set(pages)
    for name, text in pages.items():
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)="([^"]*)"', text)
        assert loaded and not [each for each in loaded if "//" in each], name


def test_relative_links_lead_to_files():
    links = [(page, token.attrs["href"]) for page, token, _ in inside("link_open")]
    links += [(page, token.attrs["src"]) for page, token, _ in inside("image")]
    assert len(links) > 20
    for page, link in links:
        folder = REPOSITORY if page == "README.md" else REPOSITORY / "docs"
        assert link.startswith(("https://", "#")) or (folder / link.partition("#")[0]).is_file(), f"{page}: {link}"


def test_files_tests_and_names_in_the_text_are_there():
    for page, token, _ in inside("code_inline"):
        if _PATH.fullmatch(token.content):
            path, _, test = token.content.partition("::")
            assert (REPOSITORY / path).exists() or path in _TO_BE_MADE, f"{page}: {path}"
            assert not test or f"def {test}(" in (REPOSITORY / path).read_text(), f"{page}: {token.content}"
        elif _NAME.fullmatch(token.content):
            pkgutil.resolve_name(token.content)


def test_fields_of_the_config_in_the_text_are_there():
    fields = flatten(mars.get_config().to_dict())
    for page in PAGES:
        for name in re.findall(r"--config\.([a-z_]+(?:\.[a-z_]+)*)", page.read_text()):
            assert name in fields, f"{page.name}: --config.{name}"
