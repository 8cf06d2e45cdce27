"""Helpers that several tests of weights share."""

import struct
import subprocess
import sys
import zipfile

import torch


def same_state(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# Memory of a process. The ru_maxrss of `resource` would begin with that of its parent.
MEMORY = """
def memory(kind):
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(kind)).split()[1])

def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return memory("VmRSS")
"""
READ = (
    MEMORY
    + """
import sys, torch
from mnist_zoo import WeightsError, from_torchvision, lenet5, load_model
from safetensors.torch import load_file
model = lenet5()
state = {name: value.clone() for name, value in model.state_dict().items()}
for path in sys.argv[1:]:
    base = forget_peak()
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
    grown = memory("VmHWM") - base
    assert grown < 250_000, (path, grown)
assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
"""
)


def refused(*paths):
    """Checks that both readers refuse each file within 250 MB, and change no network."""
    command = [sys.executable, "-W", "ignore", "-c", READ, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip((path.name for path in paths), done.stdout.splitlines(), strict=True))


def zipped(path, pickle):
    """A zip archive such as torch.save's, around a pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a/data.pkl", pickle)
        archive.writestr("a/version", b"3\n")


def hostile_pickles(size):
    """Pickles of at most so many bytes that ask for memory or time; their first two are missing."""
    steps = min(size, 749_000)
    numbers = range(steps // 20)
    large = ((2**61 - 1 << i % 60).to_bytes(16, "little") for i in numbers)
    return {
        "dicts": b"}" * size,
        "lists": b"]" * steps + b".",
        "marks": b"(" * steps + b".",
        "tuples": b"K\1\x85q\1" + b"h\1\x86q\1" * (steps // 5) + b"}h\1K\1s.",
        "itself": b"]q\1" + b"h\1a" * (steps // 3) + b".",
        "memo": b"".join(b"]r" + struct.pack("<I", 10**9 + i) for i in numbers) + b".",
        "keys": b"}(" + b"".join(b"\x8a\x10" + number + b"N" for number in large) + b"u.",
        "text": b"X" + struct.pack("<I", size // 2 * 2) + "ü".encode() * (size // 2) + b".",
        "texts": (b"X" + struct.pack("<I", 900) + "𝄞".encode() * 225) * (size // 1000) + b".",
        "sets": b"]q\1(" + b"K\1" * (steps // 2) + b"e" + SET * (steps // 40) + b".",
        "row": b"](" + b"G\0\0\0\0\0\0\0\0" * (size // 9) + b"e.",
        "doubled": b"}X\6\0\0\0format](]q\1" + DOUBLED + b"es.",  # forty times over
        "in a circle": b"}q\1X\6\0\0\0formath\1s.",
    }


SET = b"c__builtin__\nset\nh\1\x85R0"
DOUBLED = b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(1, 41))
