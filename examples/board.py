"""Small networks in C on a microcontroller: their flash and RAM, and a run on an emulated board.

``pip install ".[c,onnx]" && python examples/board.py lenet5 mini_resnet`` prints a table. It needs
``arm-none-eabi-gcc`` with newlib; with ``--run`` also ``qemu-system-arm``. Debian has both:
``apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm``.
"""

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from mnist_zoo import get_model, load_mnist
from mnist_zoo.export import export

BOARD = Path(__file__).parent / "board"
GCC = ["arm-none-eabi-gcc", "-std=gnu99", "-Os", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard"]
GCC += ["-mfpu=fpv4-sp-d16", "-ffunction-sections", "-fdata-sections"]
QEMU = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
QEMU += ["-semihosting-config", "enable=on,target=native", "-kernel"]


def sizes(source: Path) -> tuple[int, int]:
    """Bytes of flash (code and weights) and of RAM that a C file needs on a Cortex-M4."""
    made = source.with_suffix(".o")
    subprocess.run([*GCC, "-c", str(source), "-o", str(made)], check=True)
    done = subprocess.run(["arm-none-eabi-size", str(made)], check=True, capture_output=True)
    text, data, bss = map(int, done.stdout.split()[6:9])
    return text + data, data + bss


def run_on_board(source: Path, images: Tensor) -> Tensor:
    """Logits (N, classes) of uint8 images (N, 1, 28, 28), computed on QEMU's board."""
    (name,) = re.findall(r"^extern const char \*const (\w+)_names", header(source), re.M)
    program = source.with_suffix(".elf")
    macros = [
        f'-DNETWORK_HEADER="{source.stem}.h"',
        f"-DNETWORK(what)={name.upper()}_##what",
        f"-DNETWORK_LOGITS={name}_logits",
    ]
    places = [f"-I{source.parent}", "-T", str(BOARD / "board.ld"), "--specs=rdimon.specs"]
    files = [str(BOARD / "board.c"), str(source), "-lm", "-o", str(program)]
    subprocess.run([*GCC, *macros, *places, "-Wl,--gc-sections", *files], check=True)
    (source.parent / "images").write_bytes(images.contiguous().numpy().tobytes())
    command = [*QEMU, str(program)]
    done = subprocess.run(
        command, cwd=source.parent, check=True, capture_output=True, text=True, timeout=300
    )
    return torch.tensor([[float(x) for x in line.split()] for line in done.stdout.splitlines()])


def header(source: Path) -> str:
    """The header beside a C file."""
    return source.with_suffix(".h").read_text("utf-8")


def main() -> None:
    """Prints the table, and runs the networks if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--run", action="store_true", help="run 20 digits on QEMU's board")
    options = parser.parse_args()
    print("| network | flash (kB) | RAM (kB) |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            model = get_model(name, weights="mnist").eval()
            source = Path(folder, f"{name}.c")
            export(model, source, "c", pixels="uint8")
            flash, ram = sizes(source)
            print(f"| {name} | {flash / 1000:.1f} | {ram / 1000:.1f} |")
            if options.run:
                images = load_mnist("test", source="sample").images[:20]
                assert model.preprocessing is not None  # pretrained weights state it
                found = run_on_board(source, images)
                with torch.inference_mode():
                    wanted = model(model.preprocessing(images))
                print(f"largest difference on the board: {(found - wanted).abs().max():.1e}")


if __name__ == "__main__":
    main()
