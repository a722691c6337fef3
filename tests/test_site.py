"""The pages: their size, the files, tests and fields that they name, and the site made of them, also in a browser."""

import pkgutil
import re

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from cfaan_jax.experiment.fields import flatten
from cfaan_jax.experiment.recipes import recipe
from tests.documented import PAGES, REPOSITORY, inside
from tests.opened_page import open_page

_PATH = re.compile(r"(cfaan_jax|configs|data_prep|docs|launch|tests|benchmarks)/[\w/.-]+(::\w+)?")
_TO_BE_MADE = {"cfaan_jax/models/smoothing.py", "data_prep/datasets/shop.py"}  # by whoever follows docs/extend
_NAME = re.compile(r"(cfaan_jax|data_prep)(\.\w+)+")
_CUT_OFF = """return [...document.querySelectorAll("article pre > code")]
    .filter(code => code.scrollWidth > code.clientWidth + 1).map(code => code.textContent)"""
_COPIES = """return document.querySelectorAll("[data-md-type=copy], .md-clipboard").length"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Without dead links and anchors, or pages that the navigation lacks: these are warnings, and so errors."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


@pytest.mark.slow
def test_every_page_is_there_and_loads_nothing_from_elsewhere(site):
    pages = {path.relative_to(site).with_suffix(""): path.read_text() for path in site.rglob("*.html")}
    named = {page.relative_to(REPOSITORY / "docs") if page.is_relative_to(REPOSITORY / "docs") else page.relative_to(
        REPOSITORY) for page in PAGES[1:]}
    assert {page.with_suffix("") for page in named} <= set(pages) and (site / "index.html").is_file()
    for name, text in pages.items():
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)="?([^" >]*)', text)
        assert loaded and not [each for each in loaded if "//" in each], name


@pytest.mark.slow
def test_code_can_be_copied_and_no_line_is_cut_off(site, chromium):
    for width in (1280, 480):
        chromium.set_window_size(width, 800)
        for page in ("index.html", "use/redetect_link.html", "use/reference.html"):
            open_page(chromium, site / page)
            assert chromium.execute_script(_CUT_OFF) == [], f"{page}, {width} pixels wide"
            assert chromium.execute_script(_COPIES)


def test_the_readme_fits_two_screens_and_all_pages_an_evening():
    lines = PAGES[0].read_text().splitlines()
    assert len(lines) <= 120 and max(map(len, lines)) <= 110
    for command in ("bash launch/quickstart.sh", "bash launch/test.sh"):
        assert any(line.startswith(command) for line in lines), command
    assert sum(len(page.read_text().split()) for page in PAGES if page.name != "CONTRIBUTING.md") <= 14_000


def test_relative_links_lead_to_files():
    links = [(page, token.attrs["href"]) for page, token, _ in inside("link_open")]
    links += [(page, token.attrs["src"]) for page, token, _ in inside("image")]
    assert len(links) > 20
    for page, link in links:
        target = (REPOSITORY / page).parent / link.partition("#")[0]
        assert link.startswith(("https://", "#")) or target.is_file(), f"{page}: {link}"


def test_files_tests_and_names_in_the_text_are_there():
    for page, token, _ in inside("code_inline"):
        if _PATH.fullmatch(token.content):
            path, _, test = token.content.partition("::")
            assert (REPOSITORY / path).exists() or path in _TO_BE_MADE, f"{page}: {path}"
            assert not test or f"def {test}(" in (REPOSITORY / path).read_text(), f"{page}: {token.content}"
        elif _NAME.fullmatch(token.content):
            pkgutil.resolve_name(token.content)


def test_fields_of_the_config_in_the_text_are_there():
    fields = flatten(recipe().to_dict())
    for page in PAGES:
        for name in re.findall(r"--config\.([a-z_]+(?:\.[a-z_]+)*)", page.read_text()):
            assert name in fields, f"{page.name}: --config.{name}"
