"""Makes the README, which lies beside this folder, the first page of the site; links lead to it and from it."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_README = "README.md"
_OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./(?!README\.md)[^)]*\)")  # a link to a file that has no page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the README, whose place in the site is index.html."""
    beside = Path(config.config_file_path).parent
    files.append(File(_README, str(beside), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """In the site the README and all other pages lie in one folder, and of other files there are the names alone."""
    if page.file.src_uri == _README:
        return markdown.replace("](docs/", "](")
    return _OUTSIDE.sub(r"\1", markdown).replace(f"](../{_README}", f"]({_README}")
