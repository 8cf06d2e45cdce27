"""Sphinx configuration: ``sphinx-build -W docs docs/_build``."""

import mnist_zoo

project = "mnist_zoo"
author = "The mnist_zoo maintainers"
copyright = "2026, the mnist_zoo maintainers"
version = release = mnist_zoo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"mnist_zoo {release}"

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Shape", "returns_style"), "Source"]
myst_heading_anchors = 3
