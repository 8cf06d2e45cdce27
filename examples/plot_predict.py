"""
Predict on your own images
==========================

`predict` takes files, PIL images, arrays and tensors, of any size and colour, dark on light or
light on dark. Here PIL draws some; your own photo works as well.
"""

from PIL import Image, ImageDraw, ImageFont

from mnist_zoo import (
    PictureError,
    as_mnist,
    ensemble,
    lenet5_conv_residual,
    mini_googlenet,
    mini_resnet,
    predict,
)


def drawn(text: str, paper: str, ink: str, turn: float = 0, size: int = 90) -> Image.Image:
    """An image of 160×120 with this text."""
    picture = Image.new("RGB", (160, 120), paper)
    ImageDraw.Draw(picture).text((20, 5), text, ink, ImageFont.load_default(size))
    return picture.rotate(turn, fillcolor=paper)


pictures = (
    drawn("7", "white", "black"),
    drawn("3", "navy", "gold"),
    drawn("5", "#d8d0c0", "#403830", turn=12),
    drawn("2", "white", "crimson", size=40),
)
sheet = Image.new("RGB", (640, 120))
for place, picture in enumerate(pictures):
    sheet.paste(picture, (160 * place, 0))
sheet.save("drawn.png")

# %%
# The input of the network: the ink, light on black, its longer side 20 pixels, its centre of mass
# in the middle of 28×28.

seen = as_mnist(pictures)
row = Image.fromarray(seen[:, 0].permute(1, 0, 2).flatten(1).numpy())
row.resize((640, 160), Image.Resampling.NEAREST).save("drawn_seen.png")

# %%
# The pretrained weights ship in the package.

model = mini_resnet(weights="mnist")
for result in predict(model, pictures):
    print(result.digit, " ".join(f"{digit}: {share:.1%}" for digit, share in result.top))

# %%
# Printed digits are not handwriting. Averaging several networks, or several positions of the digit,
# is more reliable; with a threshold, the digit of an uncertain image is ``None``.

models = [mini_resnet(weights="mnist"), lenet5_conv_residual(weights="mnist")]
team = ensemble([*models, mini_googlenet(weights="mnist")])
for result in predict(team, pictures, shift=1, reject_below=0.9):
    print(result.digit, f"{result.probability:.1%}")

# %%
# Images without exactly one digit raise `PictureError`, which explains why.

for wrong in (Image.new("L", (50, 50), 255), drawn("42", "white", "black")):
    try:
        predict(model, wrong)
    except PictureError as error:
        print(error)
