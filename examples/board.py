"""Small networks in C on a microcontroller: their flash and RAM, and a run on an emulated board.

``pip install ".[c,onnx]" && python examples/board.py lenet5 mini_resnet`` prints a table, with
``--int8`` of networks whose weights and activations are 8 bits wide. It needs
``arm-none-eabi-gcc`` with newlib; with ``--run`` also ``qemu-system-arm``. Debian has both:
``apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm``.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from mnist_zoo import Classifier, get_model, load_mnist
from mnist_zoo.export import Session, export, load_session, quantize

BOARD = Path(__file__).parent / "board"
GCC = ["arm-none-eabi-gcc", "-std=gnu99", "-Os", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard"]
GCC += ["-mfpu=fpv4-sp-d16", "-ffunction-sections", "-fdata-sections"]
QEMU = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
QEMU += ["-semihosting-config", "enable=on,target=native", "-kernel"]


def write(model: Classifier, source: Path, int8: bool) -> Classifier | Session:
    """Writes a network as C, and returns the network whose logits it should give."""
    if not int8:
        export(model, source, "c", pixels="uint8")
        return model
    files = source.with_suffix(".onnx"), source.with_suffix(".int8.onnx")
    export(model, files[0], pixels="uint8")
    quantize(*files, load_mnist("train", source="sample").split(500)[0])
    session = load_session(files[1])
    export(session, source, "c", pixels="uint8", tolerance=0.05)
    return session


def sizes(source: Path) -> tuple[int, int]:
    """Bytes of flash (code and weights) and of RAM that a C file needs on a Cortex-M4."""
    made = source.with_suffix(".o")
    subprocess.run([*GCC, "-c", str(source), "-o", str(made)], check=True)
    done = subprocess.run(["arm-none-eabi-size", str(made)], check=True, capture_output=True)
    text, data, bss = map(int, done.stdout.split()[6:9])
    return text + data, data + bss


def run_on_board(source: Path, images: Tensor) -> Tensor:
    """Logits (N, classes) of uint8 images (N, 1, 28, 28), computed on QEMU's board."""
    header = source.with_suffix(".h").read_text("utf-8")
    (name,) = re.findall(r"^extern const char \*const (\w+)_names", header, re.M)
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


def main() -> None:
    """Prints the table, and runs the networks if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--run", action="store_true", help="run 20 digits on QEMU's board")
    parser.add_argument("--int8", action="store_true", help="weights and activations of 8 bits")
    options = parser.parse_args()
    for program in (GCC[0], QEMU[0])[: 1 + options.run]:
        if not shutil.which(program):
            parser.error(f"{program} must be installed; --help says how")
    print("| network | flash (kB) | RAM (kB) |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            model = get_model(name, weights="mnist").eval()
            source = Path(folder, f"{name}.c")
            same = write(model, source, options.int8)
            flash, ram = sizes(source)
            print(f"| {name} | {flash / 1000:.1f} | {ram / 1000:.1f} |")
            if options.run:
                images = load_mnist("test", source="sample").images[:20]
                assert same.preprocessing is not None  # pretrained weights and files state it
                found = run_on_board(source, images)
                with torch.inference_mode():
                    wanted = same(same.preprocessing(images))
                print(f"largest difference on the board: {(found - wanted).abs().max():.1e}")


if __name__ == "__main__":
    main()
