"""What the package does on a GPU: its tests, the time to 99 %, and the reports' large trainings.

``python examples/gpu.py --data FOLDER`` takes at most ten minutes on a machine with torch,
torchvision, pytest and MNIST in that folder. It runs ``tests/test_cuda.py``, then times the way to
99 % alone on the card, then trains `resnet50_report` (15 epochs) and `resnet_cnn_report` (30
epochs, whose first 10 are the report's shorter training) with three seeds each: six processes
that share the card, because a small network leaves most of it idle. What is unfinished at the
deadline goes on when the command is given again with the same ``--out``, which also gets
``gpu.json`` and ``gpu.md``, the results with the card's name. ``--device cpu --quick`` tries it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from mnist_zoo import Digits, Recipe, evaluate, fit, get_recipe, load_mnist

HERE = Path(__file__).parent
# Chosen on training digits; the rule is that of `ninety_nine`, with larger batches for the card.
TO_NINETY_NINE: dict[str, Recipe] = {
    "ninety_nine": get_recipe("ninety_nine"),
    "ninety_nine, batches of 1,024, two epochs": get_recipe(
        "ninety_nine", batch_size=1024, epochs=2
    ),
}
LARGE = {"resnet50_report": (15,), "resnet_cnn_report": (10, 30)}  # epochs that the reports state
SEEDS = 3


def card(device: torch.device) -> str:
    """The name of the device, and the versions."""
    name = platform.machine()
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{name}; Python {platform.python_version()}, torch {torch.__version__}"


def run_tests(device: str) -> str:
    """The last line of the tests on the device."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", ""]
    command += ["-W", "default"]  # another version of torch may warn of something
    done = subprocess.run(
        [*command, str(HERE.parent / "tests" / "test_cuda.py")],
        env={**os.environ, "MNIST_ZOO_TEST_DEVICE": device},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
    return (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()[-1]


def time_to_99(
    recipe: Recipe, seeds: int, data: tuple[Digits, Digits], device: torch.device
) -> list[dict[str, float]]:
    """Seconds of training, and correct test digits, for each seed; the first run warms up.

    Training alone is timed, from the first step to the last, with the digits on the device.
    """
    train, test = (digits.to(device) for digits in data)
    runs = []
    for seed in [0, *range(seeds)]:
        history = fit(recipe.replace(seed=seed), train, device=device, progress=False)
        correct = evaluate(history.model, test).correct
        runs.append({"seed": seed, "seconds": history.seconds, "correct": correct})
    return runs[1:]


def train_large(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Trains one recipe with one seed, epoch by epoch until the deadline, tested after each."""
    train, test = load_mnist("train", arguments.data), load_mnist("test", arguments.data)
    most = max(LARGE[name])
    if arguments.quick:
        train, test, most = train[:200], test[:200], 2
    folder = arguments.out / f"{name}-seed{seed}"
    device = torch.device(arguments.device)
    longest = 0.0  # seconds of an epoch so far: none begins that would not end in time
    for epochs in range(1, most + 1):
        begin = time.time()
        if begin + longest > arguments.until:
            return
        recipe = get_recipe(name, epochs=epochs, seed=seed)  # its learning rate is constant
        history = fit(recipe, train, test, folder=folder, device=device, progress=False)
        run = {
            "recipe": name,
            "seed": seed,
            "seconds": history.seconds,
            "epochs": [vars(record) for record in history.epochs],
        }
        (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
        longest = max(longest, time.time() - begin)


def train_all_large(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All large trainings at once, each in a process of its own; what they reached."""
    passed = ["--out", str(arguments.out), "--device", arguments.device]
    passed += ["--data", str(arguments.data)] if arguments.data else []
    passed += ["--quick"] if arguments.quick else []
    jobs = [
        subprocess.Popen(
            [sys.executable, __file__, "--large", name, str(seed), str(arguments.until), *passed],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for name in LARGE
        for seed in range(1 if arguments.quick else SEEDS)
    ]
    failed = sum(job.wait() != 0 for job in jobs)
    print(f"{len(jobs)} trainings, {failed} failed", flush=True)
    found = sorted(arguments.out.glob("*-seed*/run.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in found]


def page(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = [f"Card: {results['card']}. Tests: {results.get('tests', 'not run')}.", ""]
    lines += ["| training | seeds | test accuracy (%) | lowest | training (s) |"]
    lines += ["|---|---:|---:|---:|---:|"]
    rows: dict[str, list[tuple[float, float]]] = {}
    for name, runs in results.get("to_99", {}).items():
        rows[name] = [(100 * r["correct"] / results["total"], r["seconds"]) for r in runs]
    for run in results.get("large", []):
        for epochs in LARGE[run["recipe"]]:
            if len(run["epochs"]) >= epochs:
                share = run["epochs"][epochs - 1]["accuracy"]
                seconds = run["seconds"] * epochs / len(run["epochs"])
                rows.setdefault(f"{run['recipe']}, {epochs} epochs, six at once", []).append(
                    (100 * share, seconds)
                )
    for name, pairs in rows.items():
        accuracy, seconds = zip(*pairs, strict=True)
        lines.append(
            f"| {name} | {len(pairs)} | {statistics.mean(accuracy):.2f} | {min(accuracy):.2f} | "
            f"{statistics.median(seconds):.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs everything, and writes what is done after each part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the results")
    parser.add_argument("--minutes", type=float, default=9.5, help="deadline, from the start")
    parser.add_argument("--device", default="cuda", help="device, to try the script without a GPU")
    parser.add_argument("--quick", action="store_true", help="a few digits and one seed")
    parser.add_argument("--skip-tests", action="store_true", help="does not run the tests")
    parser.add_argument("--large", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.until = time.time() + 60 * arguments.minutes
    if arguments.large:
        arguments.until = float(arguments.large[2])
        train_large(arguments.large[0], int(arguments.large[1]), arguments)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(arguments.device)
    train, test = load_mnist("train", arguments.data), load_mnist("test", arguments.data)
    seeds = 30
    if arguments.quick:
        train, test, seeds = train[:2000], test[:500], 1
    results: dict[str, Any] = {"card": card(device), "total": len(test)}

    def keep(**parts: object) -> None:
        results.update(parts)
        (arguments.out / "gpu.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        (arguments.out / "gpu.md").write_text(page(results), encoding="utf-8")

    if not arguments.skip_tests:
        keep(tests=run_tests(arguments.device))
    to_99: dict[str, Any] = {}
    for name, recipe in TO_NINETY_NINE.items():
        to_99[name] = time_to_99(recipe, seeds, (train, test), device)
        keep(to_99=to_99)
        print(page(results), flush=True)
    keep(large=train_all_large(arguments))
    print(page(results))


if __name__ == "__main__":
    main()
