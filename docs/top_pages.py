"""Puts README.md and CONTRIBUTING.md, which lie beside this folder, into the site, and leads links to them."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_TOP = ("README.md", "CONTRIBUTING.md")
_TO_TOP = re.compile(r"\]\(\.\./\.\./(README|CONTRIBUTING)\.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages; the README becomes index.html."""
    folder = Path(config.config_file_path).parent
    for name in _TOP:
        files.append(File(name, str(folder), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites links between these pages and docs/, which the site holds in one folder."""
    if page.file.src_uri in _TOP:
        return markdown.replace("](docs/", "](")
    return _TO_TOP.sub(r"](../\1.md", markdown)
