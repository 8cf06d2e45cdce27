"""Helpers that several tests of weights share."""

import subprocess
import sys

import torch


def same_state(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


READ = """
import resource, sys, time, torch
from mnist_zoo import WeightsError, from_torchvision, lenet5, load_model
from safetensors.torch import load_file
model = lenet5()
state = {name: value.clone() for name, value in model.state_dict().items()}
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    start = time.monotonic()
    for read in (lambda path: from_torchvision(model, path), load_model):
        try:
            read(path)
        except WeightsError as error:
            message = str(error)
            assert path in message, message
            assert len(message) < 4000, message[:4000]
        else:
            raise AssertionError(f"{path} was read")
        if read is not load_model:
            print(message.replace(chr(10), " "))
    assert time.monotonic() - start < 10, path
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    assert grown < 250_000, (path, grown)
assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
"""


def refused(*paths):
    """Checks that both readers refuse each file within 10 s and 250 MB, and change no network."""
    command = [sys.executable, "-W", "ignore", "-c", READ, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip((path.name for path in paths), done.stdout.splitlines(), strict=True))
