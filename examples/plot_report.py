"""
Train a report's experiment
===========================

The reports' experiments are recipes: data that `fit` follows. Here is that of the simple ResNet, on
the 4,000 digits of the sample instead of MNIST's 60,000; ``python examples/train.py
mini_resnet_report`` runs it in full.
"""

from mnist_zoo import evaluate, fit, get_recipe, load_mnist, plots

report = get_recipe("mini_resnet_report", source="sample")
print(report.to_json())

# %%
# Beside it a recipe of ours, with as many epochs and the same network: a learning rate that rises
# and falls, and pictures that are moved and turned.

recipes = {
    "the report's": report,
    "ours": get_recipe("mini_resnet_minute", source="sample", epochs=report.epochs),
}
train, test = (load_mnist(split, source="sample") for split in ("train", "test"))
histories = {name: fit(recipe, train, test, progress=False) for name, recipe in recipes.items()}
plots.curves(histories).savefig("report_curves.png", dpi=110)

# %%
# Accuracy by digit. Normalisation is part of a recipe, and so goes into the evaluation.

metrics = {}
for name, history in histories.items():
    assert history.model is not None
    metrics[name] = evaluate(history.model, test, history.recipe.preprocessing)
    print(f"{name}: {metrics[name].accuracy:.1%} in {history.seconds:.0f} s")
plots.class_accuracy(metrics).savefig("report_classes.png", dpi=110)

# %%
# What is taken for what, by the report's network.

plots.confusion_matrix(metrics["the report's"]).savefig("report_confusion.png", dpi=110)

# %%
# Its most confident mistakes.

plots.mistakes(test, metrics["the report's"]).savefig("report_mistakes.png", dpi=110)
