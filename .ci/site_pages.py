"""A hook of MkDocs that adds files outside docs/ to the site. README.md becomes the home page.

A link that leaves docs/, such as `../bench/README.md`, works on a git host as it stands. The hook adds its target to
the site and rewrites the link, so `mkdocs build --strict` checks it like any other.
"""

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# CONTRIBUTING.md would meet docs/contributing.md on a file system that ignores case.
PLACES = {"README.md": "index.md", "CONTRIBUTING.md": "project/contribute.md", "CHANGELOG.md": "project/changelog.md"}
OUTSIDE = (
    *PLACES,
    "LICENSE",
    "docker-compose.yml",
    "bench/README.md",
    *(f"bench/results/*.{kind}" for kind in ("csv", "json", "png", "svg")),
)

_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ under their path in the repository."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            place = _place(path.relative_to(ROOT).as_posix())
            files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page with its links between docs/ and the rest of the repository as links within the site."""
    here = Path(str(page.file.abs_src_path)).parent

    def on_site(match: re.Match[str]) -> str:
        target = os.path.relpath(here / match[2], ROOT)
        link = os.path.relpath(_place(target), PurePosixPath(page.file.src_uri).parent)
        return f"{match[1]}{link}{match[3]}"

    return _LINK.sub(on_site, markdown)


def _place(path: str) -> str:
    """Return where the site holds this file of the repository."""
    return PLACES.get(path, path.removeprefix("docs/"))
