"""Sphinx's settings; `make docs` builds to build/docs and takes a warning for an error."""

import tomllib
from pathlib import Path

with (Path(__file__).resolve().parents[1] / "pyproject.toml").open("rb") as settings:
    metadata = tomllib.load(settings)["project"]

project = "fastcache"
author = metadata["authors"][0]["name"]
copyright = author  # noqa: A001 - the name that Sphinx reads
release = version = metadata["version"]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = []
nitpicky = True

html_theme = "furo"
html_title = f"fastcache {release}"
# Nothing is fetched from elsewhere when the pages are read.
html_copy_source = False
html_show_sphinx = False
