"""
Look inside a network
=====================

Features, filters and mistakes.
"""
# sphinx_gallery_thumbnail_number = 4

from mnist_zoo import Preprocessing, evaluate, fit, get_recipe, load_mnist, mini_resnet, plots

model = mini_resnet(weights="mnist")
plots.draw(model).savefig("inside_network.png", dpi=110)

# %%
# The kernels of the first layer: strokes and edges of every direction.

plots.filters(model).savefig("inside_filters.png", dpi=110)

# %%
# The feature maps of one digit. Layers are named as in ``model.named_modules()``.

test = load_mnist("test", source="sample")
picture = Preprocessing()(test.images[320:321])[0]
plots.feature_maps(model, picture, "conv1").savefig("inside_conv1.png", dpi=110)

# %%
# Deeper maps are smaller, and respond to parts of digits rather than strokes.

plots.feature_maps(model, picture, "rblock2").savefig("inside_rblock2.png", dpi=110)

# %%
# The pretrained weights were trained on these very digits. For honest mistakes, we train a network
# on the 4,000 training digits of the sample only, for four epochs.

recipe = get_recipe("ninety_nine", source="sample", epochs=4)
history = fit(recipe, load_mnist(source="sample"), progress=False)
metrics = evaluate(history.model, test, recipe.preprocessing)
plots.mistakes(test, metrics).savefig("inside_mistakes.png", dpi=110)

# %%
# Which digits are confused, and how reliable the probabilities are: with a calibration error of 0,
# predictions with a probability of 80 % are correct in 80 of 100 cases. The probabilities of this
# network are too low, because its recipe smooths the labels.

plots.confusion_matrix(metrics).savefig("inside_confusion.png", dpi=110)
print(f"accuracy {metrics.accuracy:.1%}, calibration error {metrics.calibration_error:.1%}")
