"""Sphinx configuration: ``sphinx-build -W docs docs/_build``.

If the environment variable ``INTERSPHINX`` is set, names from PyTorch link to its documentation;
otherwise the build needs no network.
"""

import logging
import os
import shutil
import sys
from pathlib import Path

import mnist_zoo

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
import pictures
import reference

project = "mnist_zoo"
author = "The mnist_zoo maintainers"
copyright = "2026, the mnist_zoo maintainers"
version = release = mnist_zoo.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_examples", "_extra"]
html_theme = "furo"
html_title = f"mnist_zoo {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = ["_extra"]  # the page that reads digits

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Shape", "returns_style"), "Source"]
myst_heading_anchors = 3
highlight_options = {"pycon": {"stripnl": True}}  # sessions end in an empty line, for doctest

if os.environ.get("INTERSPHINX"):
    intersphinx_mapping = {
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "torchvision": ("https://docs.pytorch.org/vision/stable", None),
    }

for noisy in ("onnx_ir", "onnxscript"):  # otherwise the gallery shows their log
    logging.getLogger(noisy).setLevel(logging.WARNING)

# a copy, because the examples write into their folder
examples = DOCS / "_examples"
shutil.rmtree(examples, ignore_errors=True)
examples.mkdir()
for pattern in ("plot_*.py", "GALLERY_HEADER.rst"):
    for file in (DOCS.parent / "examples").glob(pattern):
        shutil.copy(file, examples)
sphinx_gallery_conf = {
    "examples_dirs": str(examples),
    "gallery_dirs": "gallery",
    "image_scrapers": ("scrapers.written_pictures",),
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "show_memory": False,
    "write_computation_times": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "doc_module": ("mnist_zoo",),
    "backreferences_dir": "gallery/backreferences",
    "filename_pattern": os.environ.get("GALLERY", "/plot_"),  # the examples that run
}

(DOCS / "_extra").mkdir(exist_ok=True)


def without_factories(app, what, name, thing, options, signature, returned):
    """The defaults that a dataclass makes anew: their names are no Python, which Sphinx reads."""
    return signature and signature.replace("<factory>", "..."), returned


def setup(app):
    app.connect("autodoc-process-signature", without_factories)
    app.connect("builder-inited", lambda app: pictures.write(DOCS / "_pictures"), priority=100)
    app.connect("builder-inited", lambda app: reference.write(DOCS / "reference"), priority=100)
    app.connect("builder-inited", lambda app: pictures.write_page(DOCS / "_extra"), priority=100)
