"""The examples that train: their command line, and the page of results that one writes."""

import json
import os
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import each_network
from example_scripts import load_example
from PIL import Image
from report_cases import Modules

from mnist_zoo import (
    DataError,
    Recipe,
    evaluate,
    fit,
    get_model,
    get_recipe,
    get_weights,
    lenet5,
    list_models,
    list_recipes,
    load_data,
    load_mnist,
    load_model,
    profile,
    save_model,
)
from mnist_zoo.blocks.units import ORDERS, SHORTCUTS
from mnist_zoo.data import sources
from mnist_zoo.data.corruption import KINDS
from mnist_zoo.data.style import STYLES

ROOT = Path(__file__).parent.parent
FULL = os.environ.get("MNIST_ZOO_DATA")


train, reproduce, about, faces, catalogue = map(
    load_example, ("train", "reproduce", "about", "faces", "catalogue")
)
report_pages = load_example("report_pages")
make_weights = load_example("make_weights")
variants, benchmarks = load_example("residual_variants"), load_example("benchmarks")
lenet_settings = load_example("lenet_settings")
robustness, gpu = load_example("robustness"), load_example("gpu")
RESULTS = reproduce.results()
INT8 = catalogue.read(catalogue.INT8)["bytes"]
RUNS = [
    pytest.param(name, run, id=f"{name}-{run['label']}-{run['seed']}")
    for name, runs in RESULTS.items()
    for run in runs
]


# --- train.py --------------------------------------------------------------------------------


def test_train_without_a_recipe_lists_the_recipes(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    train.main()
    assert capsys.readouterr().out == f"{list_recipes()}\n"


def test_train_changes_the_recipe_and_reads_json(tmp_path):
    recipe = get_recipe("lenet5_report")
    changes = ["epochs=3", "source=sample", "augmentation.rotation=10", "sizes=[5,6,7]"]
    changes += ["ema_decay=0.9", "network=resnet18", 'options={"stem":"3x3"}', "nesterov=true"]
    expected = recipe.to_dict() | {"epochs": 3, "source": "sample", "sizes": [5, 6, 7]}
    expected |= {"ema_decay": 0.9, "network": "resnet18", "options": {"stem": "3x3"}}
    expected |= {"nesterov": True}
    expected["augmentation"]["rotation"] = 10
    assert train.changed(recipe, changes) == Recipe.from_dict(expected)
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    assert train.read_recipe(str(tmp_path / "recipe.json")) == recipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet5"], "must be the name of a recipe; did you mean"),
        (["lenet5_report", "epoch=3"], "Recipe has no field 'epoch'; did you mean 'epochs'"),
        (["lenet5_report", "lr=fast"], "`lr` (='fast') must be a finite number"),
        (["lenet5_report", "lr"], "'lr' must have the form field=value"),
        (["lenet5_report", "lr.x=1"], "'lr' has no parts"),
        (["missing.json"], "No such file"),
        (["lenet5_report", "source=kmnist"], "KMNIST is missing and could not be downloaded: "),
    ],
)
def test_train_explains_wrong_arguments_in_one_line(monkeypatch, tmp_path, arguments, message):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    monkeypatch.setenv("MNIST_ZOO_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://0.0.0.0:9")
    with pytest.raises(SystemExit) as error:
        train.main()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_train_tells_a_missing_teacher_in_one_line(tmp_path, monkeypatch):
    command = [
        "train.py",
        "lenet5_report",
        "source=sample",
        "--teacher",
        str(tmp_path / "a.safetensors"),
    ]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=r"^lenet5_report: .*a\.safetensors.*$"):
        train.main()


@pytest.mark.parametrize(
    ("script", "arguments"),
    [(train, []), (reproduce, ["--seeds", "0"])],
    ids=["train", "reproduce"],
)
def test_downloads_go_to_the_folder_of_the_data(script, arguments, tmp_path, monkeypatch):
    asked = []

    def download(name, folder, **options):
        asked.append(folder)
        raise DataError("no network")

    monkeypatch.setattr(sources, "_download", download)
    monkeypatch.setenv("MNIST_ZOO_DATA", "")  # which is as it was after the test
    command = ["lenet5_report", *arguments, "--data", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", [script.__name__, *command])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="no network"):
        script.main()
    assert asked == [tmp_path / "data"]


@pytest.mark.parametrize("name", ["draw_digit", "sample_pictures", "report_pages", "formats"])
def test_help_is_shown_and_nothing_written(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith(f"usage: {name}.py")
    assert list(tmp_path.iterdir()) == []


def test_formats_names_the_formats_that_there_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["formats.py", "lenet5", "--formats", "foo"])
    with pytest.raises(SystemExit, match="2"):
        load_example("formats").main()
    assert re.search("invalid choice: 'foo' .*torchscript", capsys.readouterr().err)


def test_train_takes_teachers_from_files(tmp_path, monkeypatch):
    files = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for file in files:
        save_model(lenet5(), file)
    changes = ["source=sample", "sizes=[60,20,20]", "epochs=1", "distillation=0.5"]
    out = tmp_path / "runs"
    command = ["train.py", "lenet5_report", *changes, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=r"^lenet5_report: `teacher` \(=None\) must be a network"):
        train.main()
    monkeypatch.setattr(sys, "argv", [*command, "--teacher", *map(str, files)])
    train.main()
    assert load_model(out / "weights.safetensors").preprocessing is not None


def test_train_says_in_one_line_that_a_folder_has_another_run(tmp_path, monkeypatch):
    command = ["train.py", "lenet5_report", "source=sample", "sizes=[60,20,20]", "epochs=1"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path)])
    train.main()
    weights = (tmp_path / "weights.safetensors").read_bytes()
    monkeypatch.setattr(sys, "argv", [*command, "seed=1", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as error:
        train.main()
    message = str(error.value)
    assert message.startswith(f"no checkpoint of this run in {tmp_path}: ")
    assert "seed is 0, not 1" in message
    assert message.endswith("; choose another folder by --out")
    assert "\n" not in message
    assert (tmp_path / "weights.safetensors").read_bytes() == weights


# --- robustness.py ---------------------------------------------------------------------------


def test_drawn_sets_keep_the_labels_and_change_the_digits():
    digits = load_mnist("test", source="sample")[::4]
    sets = dict(robustness.drawn_sets(digits))
    again = dict(robustness.drawn_sets(digits))
    assert len(sets) == 1 + len(STYLES) + len(KINDS)
    for label, drawn in sets.items():
        digit, _ = STYLES.get(label, (None, None))
        chosen = digits if digit is None else digits[digits.labels == digit]
        assert torch.equal(drawn.labels, chosen.labels)
        assert torch.equal(drawn.images, again[label].images)
        assert torch.equal(drawn.images, chosen.images) == (label == "as they are")


def stated_on_drawn_sets():
    """The rows of the table in docs/training.md: a set's name, then each network's accuracy."""
    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    head, _, *lines = text.partition("| digits |")[2].partition("\n\n")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines]
    return re.findall(r"\w+", head), rows


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="MNIST_ZOO_DATA names no folder with MNIST")
@pytest.mark.parametrize("name", stated_on_drawn_sets()[0])
def test_training_page_states_the_accuracies_on_drawn_sets(name):
    networks, rows = stated_on_drawn_sets()
    assert len(networks) >= 3
    model = get_model(name, weights="mnist")
    stated = {label: values[networks.index(name)] for label, *values in rows}
    found = {
        label: f"{100 * evaluate(model, digits).accuracy:.2f}"
        for label, digits in robustness.drawn_sets(load_mnist("test"))
    }
    assert stated == found


# --- reproduce.py ----------------------------------------------------------------------------


def test_pages_of_reports_and_of_our_experiments_are_up_to_date():
    assert (ROOT / "docs" / "reproduction.md").read_text() == report_pages.page_of_reports()
    assert (ROOT / "docs" / "our_experiments.md").read_text() == report_pages.page_of_ours()


def test_every_experiment_is_on_one_page_and_every_report_is_cited():
    texts = [report_pages.page_of_reports(), report_pages.page_of_ours()]
    for name in RESULTS:
        assert sum(f"curves_{name}.svg" in text for text in texts) == (
            len(RESULTS[name][0]["curve"]) > 1
        )
    for report in report_pages.REPORTS:
        assert f"*{report.title}*, {report.kind}." in texts[0]


def test_curves_show_mean_and_range_of_the_seeds_on_logarithmic_axes():
    runs = [
        {"label": "a", "curve": [{"train_loss": t, "accuracy": a} for t, a in curve]}
        for curve in ([(1.0, 0.9), (0.1, 0.99)], [(3.0, 0.7), (0.3, 0.97)])
    ]
    loss, error = report_pages.curves(runs, {"a": ((2, 98.0),)}).axes
    assert loss.get_yscale() == error.get_yscale() == "log"
    assert error.lines[0].get_ydata() == pytest.approx([20, 2])
    assert loss.lines[0].get_ydata() == pytest.approx([2, 0.2])
    band = error.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((1, 30))
    assert error.lines[1].get_ydata() == pytest.approx([2])


def test_plot_of_records_states_mean_accuracy_and_median_seconds():
    runs = [
        {"label": "a", "train_seconds": s, "test": {"correct": c, "total": 1000}}
        for s, c in ((1.0, 980), (2.0, 990), (6.0, 991))
    ]
    (axes,) = report_pages.records(runs).axes
    assert axes.get_title(loc="left") == "98.70 % in 2.0 s"
    assert axes.lines[0].get_xdata() == pytest.approx([1, 2, 6])
    assert axes.lines[0].get_ydata() == pytest.approx([98, 99, 99.1])
    page = report_pages.page_of_ours()
    assert reproduce.RULE in page
    assert "_pictures/records.svg" in page


@pytest.mark.parametrize("name", ["resnet50", "resnet_cnn"])
def test_page_on_training_states_the_results_of_the_fast_recipes(name):
    (run,) = RESULTS[name]
    stated = f"| `{name}_fast` | `{name}` | {reproduce.accuracies([run])[0]:.2f} % in"
    stated += f" {len(run['curve'])} epochs"
    assert stated in (ROOT / "docs" / "training.md").read_text()


def reproduced(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *map(str, arguments)])
    reproduce.main()


def test_reproduce_lists_a_line_per_experiment(capsys, monkeypatch):
    reproduced(monkeypatch, "--list")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(reproduce.EXPERIMENTS)
    assert lines[0].endswith("Ours: 99 % in one epoch (30 of 30 runs stored)")


def test_reproduce_says_where_the_results_of_a_finished_experiment_are(capsys, monkeypatch):
    monkeypatch.setattr(report_pages, "write_pages", lambda: None)
    monkeypatch.setattr(reproduce, "train_and_test", None)  # which is not called
    reproduced(monkeypatch, "ninety_nine")
    assert re.search(r"nothing to run, .*ninety_nine\.json; --seeds", capsys.readouterr().out)


@pytest.mark.parametrize("seeds", [[], ["--seeds", 0]])
def test_reproduce_refuses_rows_that_an_experiment_lacks(seeds, monkeypatch):
    monkeypatch.setattr(reproduce, "train_and_test", None)  # which is not called
    with pytest.raises(SystemExit, match=r"no row \['lenet'\]; the rows are \['lenet5', .*\]"):
        reproduced(monkeypatch, "lenet5", "--only", "lenet", *seeds)


MINE = "from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))"


@pytest.mark.parametrize("own", [False, True], ids=["recipe", "network"])
def test_reproduce_compares_seeds_of_a_recipe_or_a_network_of_ones_own(
    tmp_path, capsys, monkeypatch, own
):
    file, network = tmp_path / "mine.json", tmp_path / "mine.py"
    changes = {"source": "sample", "sizes": (200, 50, 50), "epochs": 1}
    file.write_text(get_recipe("lenet5_report", **changes).to_json())
    network.write_text(MINE)
    chosen = ["--network", f"{network}:make"] if own else []
    command = [file, "--seeds", 3, 5, "--runs", tmp_path / "runs", *chosen]
    reproduced(monkeypatch, *command)
    stored = json.loads((tmp_path / "runs" / f"mine{'-make' * own}.json").read_text())
    assert [run["seed"] for run in stored] == [3, 5]
    accuracy = reproduce.spread(reproduce.accuracies(stored))
    row = f"{'make' if own else 'lenet5'} +{re.escape(accuracy)} \\(2 seeds\\) +– +–"
    assert re.search(row, capsys.readouterr().out)
    if not own:
        monkeypatch.setattr(reproduce, "train_and_test", None)  # finished runs are not repeated
        reproduced(monkeypatch, *command)
        assert re.search(row, capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ninety_nine", "--seeds", "0", "--network", "mine.py:make"], "must be a file and a name"),
        (["lenet5_rep", "--seeds", "0"], "did you mean 'lenet5_report'"),
    ],
)
def test_reproduce_explains_wrong_arguments(monkeypatch, arguments, message):
    with pytest.raises(SystemExit) as error:
        reproduced(monkeypatch, *arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_stored_results_have_the_recipes_of_today_and_consistent_figures(name, run):
    (row,) = [row for row in reproduce.EXPERIMENTS[name].rows if row.label == run["label"]]
    recipe = Recipe.from_dict(run["recipe"])
    assert recipe.replace(reference="") == row.recipe.replace(seed=run["seed"], reference="")
    assert len(run["curve"]) == recipe.epochs
    last = run["curve"][-1]["accuracy"]
    if recipe.sizes is None:  # then the curve shows the test set
        assert run["test"]["total"] == 10_000
        assert last == pytest.approx(run["test"]["correct"] / 10_000, abs=2e-4)


def test_networks_may_start_from_the_initial_weights_of_the_reports_code():
    recipe = get_recipe("plain18_report")
    ours, theirs = reproduce.with_torch_init(recipe), Modules(1)
    layers = (ours.conv1, theirs.net[0][0]), (ours.layer4[1].conv2, theirs.net[4][1].conv2)
    for layer, other in layers:
        assert layer.weight.std().item() == pytest.approx(other.weight.std().item(), rel=0.05)
    again = reproduce.with_torch_init(recipe)
    assert torch.equal(ours.layer2[0].conv1.weight, again.layer2[0].conv1.weight)


@pytest.mark.skipif(not FULL, reason="MNIST_ZOO_DATA names no folder with MNIST")
def test_stored_result_is_reproduced():
    """The cheapest run; equal on the machine of the results, close to it on another."""
    recorded = RESULTS["ninety_nine"][0]
    recipe = Recipe.from_dict(recorded["recipe"])
    digits, _, test = load_data(recipe)
    history = fit(recipe, digits, progress=False)
    correct = evaluate(history.model, test, recipe.preprocessing).correct
    assert abs(correct - recorded["test"]["correct"]) <= 25


# --- residual_variants.py --------------------------------------------------------------------


def test_residual_variants_differ_in_one_option_only():
    recipes = [row.recipe for row in variants.ROWS.values()]
    assert all(recipe.replace(options={}) == variants.RECIPE for recipe in recipes)
    chosen = [(recipe.options["order"], recipe.options["shortcut"]) for recipe in recipes]
    assert chosen == [(order, "identity") for order in ORDERS] + [
        ("original", shortcut) for shortcut in SHORTCUTS if shortcut != "identity"
    ]
    assert set(variants.PAPER) == set(variants.ROWS)


def test_page_of_residual_variants_is_up_to_date():
    assert variants.PAGE.read_text(encoding="utf-8") == variants.page()
    seeds = {label: set() for label in variants.ROWS}
    for run in reproduce.results_of(variants.NAME):
        row = variants.ROWS[run["label"]]
        assert reproduce.belongs_to(run, row, run["seed"])
        seeds[row.label].add(run["seed"])
    assert all(found == set(variants.EXPERIMENT.seeds) for found in seeds.values())


# --- lenet_settings.py -----------------------------------------------------------------------


def test_page_of_lenet_settings_is_up_to_date():
    assert lenet_settings.PAGE.read_text(encoding="utf-8") == lenet_settings.page()
    runs = lenet_settings.results()
    for run in runs:
        key = lenet_settings.key(run["label"], run["network"], run["seed"])
        assert key.items() <= run.items()
        setting = lenet_settings.SETTINGS[run["label"]]
        assert len(run["curve"]) == setting.epochs
    done = {(run["label"], run["network"]): set() for run in runs}
    for run in runs:
        done[run["label"], run["network"]].add(run["seed"])
    for label, setting in lenet_settings.SETTINGS.items():
        for network in lenet_settings.NETWORKS:
            assert done[label, network] == set(setting.seeds)


@pytest.mark.parametrize("network", lenet_settings.NETWORKS)
def test_the_written_out_loop_trains_like_fit(network):
    digits, test = load_mnist(source="sample")[:640], load_mnist("test", source="sample")[:200]
    recipe = get_recipe(f"{network}_report", epochs=1)
    setting = lenet_settings.Setting(0.1307, 0.3081, epochs=1)
    (epoch,) = lenet_settings.train(network, setting, 0, digits, test)
    history = fit(recipe, digits, test, progress=False)
    assert epoch["train_loss"] == pytest.approx(history.epochs[0].train_loss, abs=0.02)
    assert epoch["test_loss"] == pytest.approx(history.epochs[0].loss, abs=0.02)
    assert epoch["batch_test_loss"] != epoch["test_loss"]


def test_the_report_on_lenet_is_quoted_alike_everywhere():
    rows = {row.label: row for row in reproduce.EXPERIMENTS["lenet5"].rows}
    each = zip(lenet_settings.NETWORKS, lenet_settings.REPORTED["test_accuracy"], strict=True)
    for network, (first, *_, last) in each:
        assert rows[network].reported == f"{last:.2f} %"
        assert report_pages.STATED["lenet5"][network] == ((1, first), (10, last))


def test_the_order_of_max_pooling_and_relu_changes_nothing():
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    first, second = F.max_pool2d(F.relu(x), 2), F.relu(F.max_pool2d(x, 2))
    weights = torch.randn_like(first)
    assert torch.equal(first, second)
    gradients = [torch.autograd.grad((out * weights).sum(), x)[0] for out in (first, second)]
    assert torch.equal(*gradients)


# --- benchmarks.py ---------------------------------------------------------------------------


GROWTH = {
    name: [
        {"value": v, "low": v**2, "milliseconds": 3 * v**2, "high": 4 * v**2, "megabytes": 1}
        for v in sweep.values
    ]
    for name, sweep in benchmarks.SWEEPS.items()
}


def test_page_of_benchmarks_has_a_table_per_question_and_says_who_is_faster():
    common = {"question": "forward", "rounds": 9, "bar": 0.9}
    rows = [
        {"name": "a", "row": "a's net", "low": 0.5, "median": 0.7, "high": 0.8, **common},
        {"name": "b", "row": "b's net", "low": 0.9, "median": 1.0, "high": 1.1, **common},
        {"name": "c", "row": "c's net", "low": 1.1, "median": 2.0, "high": 3.0, **common},
        {**common, "name": "d", "row": "`d`", "low": 0.1, "median": 0.2, "high": 0.3}
        | {"question": "peak"},
    ]
    measured = {"machine": "M", "versions": "V", "spread": "quartiles", "results": rows}
    page = benchmarks.page(measured, GROWTH)
    assert "| a's net | 0.70 | 0.50 to 0.80 | 9 | 0.90 | the peer |" in page
    assert "| b's net | 1.00 | 0.90 to 1.10 | 9 | 0.90 | neither |" in page
    assert "| c's net | 2.00 | 1.10 to 3.00 | 9 | 0.90 | ours |" in page
    assert "| `d` | 20% | 10% to 30% | 9 |\n" in page
    assert page.count("\n## ") == 3


def test_growth_states_the_exponent_and_what_doubling_does():
    assert benchmarks.exponent(GROWTH["batch"]) == pytest.approx(2)
    axes = benchmarks.draw_growth(GROWTH).axes
    assert len(axes) == len(GROWTH)
    assert axes[0].get_title(loc="left") == "twice the batch:\n4.00 times as long"
    assert axes[0].lines[0].get_ydata() == pytest.approx([3 * v**2 for v in (1, 4, 16, 64, 256)])


def test_page_of_benchmarks_is_up_to_date():
    measured = benchmarks.read(benchmarks.RESULTS)
    growth = benchmarks.read(benchmarks.GROWTH)
    page = (benchmarks.DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert page == benchmarks.page(measured, growth), "run examples/benchmarks.py"
    rows = {row["name"]: row for row in measured["results"]}
    assert len(rows) == len(measured["results"])
    assert all(row["low"] <= row["median"] <= row["high"] for row in rows.values())
    assert {name: tuple(point["value"] for point in points) for name, points in growth.items()} == {
        name: sweep.values for name, sweep in benchmarks.SWEEPS.items()
    }


def test_every_benchmark_is_on_the_page_under_a_question():
    source = "".join(file.read_text("utf-8") for file in (ROOT / "tests/benchmarks").glob("t*.py"))
    marks = re.findall(r'question\("(\w+)"\)', source)
    raced = re.findall(r"^def (test_\w+)\((?:race|report)\b", source, re.M)
    assert set(marks) == set(benchmarks.QUESTIONS)
    assert len(marks) == len(raced)
    stored = benchmarks.read(benchmarks.RESULTS)["results"]
    assert {row["name"].partition("[")[0] for row in stored} <= set(raced)


# --- catalogue.py ----------------------------------------------------------------------------


@pytest.mark.parametrize("network", each_network())
def test_pages_of_networks_are_up_to_date(network):
    page = (catalogue.CARDS / f"{network}.md").read_text(encoding="utf-8")
    assert page == catalogue.card(network)
    for picture in re.findall(r"\]\((\w+\.png)\)", page):
        assert (catalogue.CARDS / picture).stat().st_size > 5_000


@pytest.fixture
def counted(comparison, monkeypatch):
    """Gives the scripts the costs of all networks, which were counted before."""
    monkeypatch.setattr(catalogue, "compare", lambda networks: comparison)


@pytest.mark.parametrize("network", list_models())
def test_every_network_has_a_purpose_papers_and_a_way_to_train_it(network):
    assert about.matching(network, about.PURPOSES)
    assert "http" in about.sources(network) or about.sources(network) == "Ours"
    assert catalogue.accuracies_of(network) or about.matching(network, about.UNMEASURED)
    (command, *_) = re.findall(r"train\.py (.+)", about.training(network))
    name, *changes = command.split()
    assert train.changed(get_recipe(name), changes).network == network


def test_index_of_networks_is_up_to_date(counted):
    index = (catalogue.CARDS / "index.md").read_text(encoding="utf-8")
    assert index == catalogue.index()


def test_faces_and_comparison_are_up_to_date():
    texts = faces.written()
    assert len(texts) == 4 + len(list(faces.PACKAGE.glob("*/__init__.py")))
    for path, text in texts.items():
        assert path.read_text(encoding="utf-8") == text, f"run examples/catalogue.py: {path}"


@pytest.mark.parametrize("lost", ["resnet34", "lenet5", "densenet_bc100_12"])
def test_a_network_that_a_face_lacks_is_added(lost):
    def lacking(face):
        return re.sub(rf"from \S+ import {lost} as {lost}\n", "", face)

    top, folder = (face.read_text("utf-8") for face in (faces.TOP, faces.MODELS_FACE))
    assert lacking(top) != top == faces.top_level(lacking(top))
    assert lacking(folder) != folder == faces.of_folder(faces.MODELS_FACE.parent, lacking(folder))


def test_our_numbers_are_written_into_the_comparison():
    text = faces.COMPARISON.read_text("utf-8")
    lost = re.sub(r"\| \d+ (networks )?\|\n", r"| 0 \1|\n", text)
    assert lost != text == faces.comparison(lost)


def test_other_packages_were_measured_beside_the_weights_of_today():
    measured = json.loads(faces.PACKAGES.read_text("utf-8"))
    again = "run tests/benchmarks/test_digit_packages.py --write"
    assert measured["weights"] == get_weights("mini_resnet").sha256, again


def test_plot_of_readme_shows_the_results_of_today(counted):
    with Image.open(catalogue.PLOT) as picture:
        drawn = json.loads(picture.info["Description"])
    assert drawn == [list(point) for point in catalogue.points()], "run examples/catalogue.py"


def test_latency_and_int8_were_measured_for_every_network():
    others = [other.name for other in catalogue.published()]
    assert [*catalogue.read(catalogue.LATENCY)["milliseconds"]] == [*list_models(), *others]
    known = [network for network in list_models() if catalogue.accuracies_of(network)]
    assert [*INT8] == [*known, *others]


SMALL = ("digitnet_1k", "Keras's example")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in SMALL else pytest.mark.slow) for n in INT8]
)
def test_sizes_of_int8_files_are_those_of_today(name):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    # versions of ONNX Runtime write slightly different graphs
    assert catalogue.size_of_int8(name) == pytest.approx(INT8[name], rel=0.02)


def test_published_networks_have_their_known_numbers_of_parameters():
    others = catalogue.published()
    found = {other.name: profile(other.network, other.input_size) for other in others}
    assert f"{found['MLP (2010)'].macs / 1e6:.2f}" == "12.11"  # million weights
    assert found["Keras's example"].params == 1_199_882  # those of PyTorch's, the same network


def test_accuracies_come_from_runs_on_all_of_mnist():
    for network, experiment in catalogue.MEASURED_BY.items():
        runs = [run for run in RESULTS[experiment] if run["label"] == network]
        assert runs
        assert all(run["test"]["total"] == 10_000 for run in runs)
        expected = [run["test"]["correct"] / 1e4 for run in runs]
        assert catalogue.accuracies_of(network) == pytest.approx(expected)
    assert not catalogue.accuracies_of("resnet152")


# --- make_weights.py -------------------------------------------------------------------------


@pytest.mark.parametrize("network", list_models(pretrained=True))
def test_manifest_accuracies_equal_the_stored_results(network):
    runs = make_weights.runs_of(network)
    assert [run["seed"] for run in runs] == list(range(len(runs)))
    found = tuple(run["test"]["correct"] / run["test"]["total"] for run in runs)
    weights = get_weights(network)
    assert weights.accuracies == found
    assert abs(weights.accuracy - found[0]) < 5e-4  # half precision moves a digit or two


# --- gpu.py ----------------------------------------------------------------------------------


def test_the_large_trainings_on_a_gpu_go_on_epoch_by_epoch():
    """A run with more epochs goes on only where the learning rate is constant."""
    for name, epochs in gpu.LARGE.items():
        assert get_recipe(name).schedule == "constant"
        assert get_recipe(name).epochs in epochs


def test_the_page_of_a_gpu_states_only_what_was_reached():
    results = {
        "card": "a card",
        "total": 200,
        "to_99": {"fast": [{"seed": 0, "seconds": 0.5, "correct": 198}]},
        "large": [
            {
                "recipe": "resnet_cnn_report",
                "seed": 0,
                "seconds": 24.0,
                "epochs": [{"accuracy": 0.9 + epoch / 1000} for epoch in range(12)],
            }
        ],
    }
    page = gpu.page(results)
    assert "| fast | 1 | 99.00 | 99.00 | 0.50 |" in page
    assert "| resnet_cnn_report, 10 epochs, six at once | 1 | 90.90 | 90.90 | 20.00 |" in page
    assert "30 epochs" not in page
