"""
Train a report's experiment
===========================

The reports' experiments are recipes, which `fit` takes. This one trains the simple ResNet, on the
4,000 digits of the sample instead of MNIST's 60,000; ``python examples/train.py
mini_resnet_report`` runs it in full.
"""
# sphinx_gallery_thumbnail_number = 4

from mnist_zoo import evaluate, fit, get_recipe, load_mnist, plots

report = get_recipe("mini_resnet_report", source="sample")
print(report.to_json())

# %%
# For comparison, our recipe with the same network and as many epochs: its learning rate rises and
# falls, and it shifts and rotates the images.

recipes = {
    "the report's": report,
    "ours": get_recipe("mini_resnet_minute", source="sample", epochs=report.epochs),
}
train, test = (load_mnist(split, source="sample") for split in ("train", "test"))
histories = {name: fit(recipe, train, test, progress=False) for name, recipe in recipes.items()}
plots.curves(histories).savefig("report_curves.png", dpi=110)

# %%
# Accuracy per digit. The recipe decides the normalisation, so `evaluate` needs it, too.

metrics = {}
for name, history in histories.items():
    metrics[name] = evaluate(history.model, test, history.recipe.preprocessing)
    print(f"{name}: {metrics[name].accuracy:.1%} in {history.seconds:.0f} s")
plots.class_accuracy(metrics).savefig("report_classes.png", dpi=110)

# %%
# Which digits the report's network confuses.

plots.confusion_matrix(metrics["the report's"]).savefig("report_confusion.png", dpi=110)

# %%
# Its most confident mistakes.

plots.mistakes(test, metrics["the report's"]).savefig("report_mistakes.png", dpi=110)
