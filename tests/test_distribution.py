"""What the files hold that `python -m build` writes: MNIST_ZOO_DIST names their folder."""

import os
import re
import subprocess
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import mnist_zoo

ROOT = Path(__file__).parent.parent
FOLDER = os.environ.get("MNIST_ZOO_DIST")
NAME = f"mnist_zoo-{mnist_zoo.__version__}"

pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="MNIST_ZOO_DIST names no folder of a build"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git does not know what belongs here"),
]


def kept(*places):
    """The files that git keeps, or would keep, in these folders."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}


@pytest.fixture(scope="module")
def wheel():
    (path,) = Path(FOLDER).glob("*.whl")
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture(scope="module")
def sdist():
    (path,) = Path(FOLDER).glob("*.tar.gz")
    with tarfile.open(path) as file:
        return {entry.name: file.extractfile(entry).read() for entry in file if entry.isfile()}


def test_wheel_contains_exactly_the_package(wheel):
    stated = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL")}
    assert set(wheel) == kept("mnist_zoo") | stated | {f"{NAME}.dist-info/licenses/LICENSE"}
    weights = "mnist_zoo/weights/checkpoints/mini_resnet.safetensors"
    assert {"mnist_zoo/py.typed", weights} <= set(wheel)


def test_sdist_contains_exactly_package_tests_docs_and_examples(sdist):
    parts = {"mnist_zoo", "tests", "docs", "examples", "hubconf.py", "pyproject.toml"}
    parts |= {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff"}
    parts |= {"SECURITY.md"}
    expected = kept(*parts) | {"PKG-INFO", ".gitignore"}  # which hatchling adds
    assert set(sdist) == {f"{NAME}/{name}" for name in expected}


def test_every_file_equals_the_checkout(wheel, sdist):
    for name in kept("mnist_zoo"):
        content = (ROOT / name).read_bytes()
        assert wheel[name] == content, name
        assert sdist[f"{NAME}/{name}"] == content, name


def test_metadata_states_name_version_licence_extras_and_readme(wheel):
    text = wheel[f"{NAME}.dist-info/METADATA"].decode()
    metadata = message_from_string(text)
    assert metadata["Name"] == "mnist-zoo"
    assert metadata["Version"] == mnist_zoo.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.10"
    extras = {"c", "examples", "executorch", "hub", "onnx", "tensorboard"}
    extras |= {"test", "benchmark", "docs", "dev"}
    assert set(metadata.get_all("Provides-Extra")) == extras
    readme = (ROOT / "README.md").read_text()
    assert text.partition("\n\n")[2].strip() == readme.strip()
    if metadata["Project-URL"]:  # then it may be uploaded: a registry's page has no folder docs
        assert not re.findall(r"\]\((?!https://|#)[^)]*\)", readme)
