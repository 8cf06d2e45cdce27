"""Photos of single digits on papers of many kinds, drawn in code.

`photo(kind, seed)` gives a picture and the digit on it. Digits are MNIST's or drawn strokes.
"""

import io
from functools import cache

import drawing
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from mnist_zoo import load_mnist, mini_resnet, predict


class Draw:
    """Random numbers of one picture, and the digits that it may show."""

    def __init__(self, kind, seed, source, split):
        self.random = np.random.default_rng([seed, *kind.encode()])
        self.digits = mnist(split, source)
        self.digit = seed % 10

    def between(self, low, high):
        return float(self.random.uniform(low, high))

    def whole(self, low, high):
        return int(self.random.integers(low, high + 1))

    def one_of(self, *values):
        return values[self.random.integers(len(values))]

    def chance(self, share):
        return bool(self.random.random() < share)


@cache
def mnist(split, source):
    digits = load_mnist(split, source=source)
    labels = digits.labels.numpy()
    return [digits.images[:, 0].numpy()[labels == digit] for digit in range(10)]


# --- Strokes and paper -----------------------------------------------------------------------


@cache
def network():
    return mini_resnet(weights="mnist")


def strokes(draw, size, digit=None, turn=10):
    """The ink of a digit, 0…1, cut to the ink's box, with a longer side of `size` pixels.

    The network reads the digit: the pictures ask whether its ink is found, and nothing else.
    """
    digit = draw.digit if digit is None else digit
    while True:
        ink = any_strokes(draw, digit, turn)
        if predict(network(), ImageOps.expand(ink, 30)).digit == digit:
            break
    scale = size / max(ink.size)
    shape = [max(3, round(side * scale)) for side in ink.size]
    way = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return np.asarray(ink.resize(shape, way)) / np.float32(255)


def any_strokes(draw, digit, turn):
    if draw.chance(0.5):
        choice = draw.digits[digit]
        picture = Image.fromarray(choice[draw.whole(0, len(choice) - 1)])
        picture = picture.resize((4 * 28, 4 * 28), Image.Resampling.BICUBIC)
    else:
        pen = draw.between(0.025, 0.13) * 400
        picture = drawing.drawn(digit, max(3, round(pen)), draw.random, 400)
        picture = picture.point(lambda value: 255 - value)
    pad = picture.width // 3
    whole = Image.new("L", (picture.width + 2 * pad,) * 2)
    whole.paste(picture, (pad, pad))
    whole = whole.rotate(draw.between(-turn, turn), resample=Image.Resampling.BICUBIC)
    return whole.crop(whole.point(lambda value: 255 * (value > 60)).getbbox())


def colour(draw, grey, tint=0.08):
    """A colour of about this grey value in 0…1."""
    return np.clip(grey * (1 + draw.random.uniform(-tint, tint, 3)), 0, 1)


def paper(draw, height, width, grey=None):
    grey = draw.between(0.65, 0.97) if grey is None else grey
    return np.ones((height, width, 3), np.float32) * colour(draw, grey)


def put(page, ink, top, left, shade):
    """Writes ink (h, w) in 0…1 on a page (H, W, 3); what lies beyond the page is cut off."""
    height, width = page.shape[:2]
    up, over = max(0, -top), max(0, -left)
    ink = ink[up : height - top, over : width - left]
    place = page[max(0, top) :][: ink.shape[0], max(0, left) :][:, : ink.shape[1]]
    place[...] = place * (1 - ink[..., None]) + np.asarray(shade) * ink[..., None]


def write(draw, page, low=0.25, high=0.7, room=0.06, shade=None):
    """Writes the digit somewhere on the page, `low` to `high` of its shorter side large."""
    height, width = page.shape[:2]
    ink = strokes(draw, draw.between(low, high) * min(height, width))
    top = draw.whole(
        int(room * height), max(int(room * height), height - ink.shape[0] - int(room * height))
    )
    left = draw.whole(
        int(room * width), max(int(room * width), width - ink.shape[1] - int(room * width))
    )
    shade = dark(draw) if shade is None else shade
    put(page, ink, top, left, shade)
    return top, left, *ink.shape


def dark(draw):
    """The colour of a pen: pencil grey, black, blue, red."""
    if draw.chance(0.6):
        return colour(draw, draw.between(0.05, 0.4))
    return np.array(draw.one_of((0.1, 0.15, 0.55), (0.6, 0.1, 0.12), (0.1, 0.35, 0.2)))


def size_of(draw):
    long, short = draw.whole(320, 760), draw.between(0.6, 1)
    height, width = long, int(long * short)
    return (height, width) if draw.chance(0.5) else (width, height)


def wood(draw, height, width):
    grain = np.cumsum(draw.random.normal(0, 1, width))
    grain = (grain - grain.min()) / (np.ptp(grain) + 1e-6)
    wave = 0.5 + 0.5 * np.sin(
        40 * grain[None] + np.linspace(0, draw.between(1, 6), height)[:, None]
    )
    base = colour(draw, draw.between(0.2, 0.5), 0.3)
    return (base * (0.75 + 0.25 * wave[..., None])).astype(np.float32)


def cloth(draw, height, width):
    y, x = np.mgrid[:height, :width]
    step = draw.between(3, 12)
    weave = np.sign(np.sin(x / step) * np.sin(y / (1.2 * step)))
    base = colour(draw, draw.between(0.25, 0.6), 0.3)
    return (base * (1 + draw.between(0.1, 0.6) * weave[..., None])).clip(0, 1).astype(np.float32)


def ground(draw, height, width):
    """What a sheet lies on."""
    kind = draw.one_of("plain", "plain", "wood", "cloth")
    if kind == "plain":
        return paper(draw, height, width, draw.between(0.05, 0.55))
    return wood(draw, height, width) if kind == "wood" else cloth(draw, height, width)


def in_perspective(draw, sheet, below, corners):
    """Lays a sheet onto another picture, its corners on these points (x, y)."""
    height, width = sheet.shape[:2]
    source = [(0, 0), (width, 0), (width, height), (0, height)]
    rows = []
    for (x, y), (u, v) in zip(corners, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    values = np.linalg.solve(np.array(rows, float), np.array(source, float).ravel())
    size = below.shape[1::-1]
    seen = as_image(sheet).transform(
        size, Image.Transform.PERSPECTIVE, tuple(values), Image.Resampling.BICUBIC
    )
    mask = Image.new("L", (width, height), 255).transform(
        size, Image.Transform.PERSPECTIVE, tuple(values), Image.Resampling.BICUBIC
    )
    whole = as_image(below)
    whole.paste(seen, (0, 0), mask)
    return np.asarray(whole, np.float32) / 255


def as_image(page):
    return Image.fromarray((np.clip(page, 0, 1) * 255).round().astype(np.uint8))


# --- Light and camera ------------------------------------------------------------------------


def lit(draw, page, strength=0.35):
    """Light from one side, and darker corners."""
    height, width = page.shape[:2]
    y, x = np.mgrid[:height, :width]
    y, x = y / height - 0.5, x / width - 0.5
    turn = draw.between(0, 6.28)
    light = 1 - strength * draw.between(0.2, 1) * (
        0.5 + (np.cos(turn) * x + np.sin(turn) * y) / 1.42
    )
    light = light * (1 - strength * draw.between(0, 1) * 1.5 * (x**2 + y**2))
    return page * light[..., None]


def taken(draw, page, noise=0.012):
    """A photo of the page: blurred a little, with noise, and stored as JPEG."""
    picture = as_image(page).filter(ImageFilter.GaussianBlur(draw.between(0, 1.3)))
    pixels = np.asarray(picture, float) / 255
    pixels = pixels + draw.random.normal(0, draw.between(0.002, noise), pixels.shape)
    content = io.BytesIO()
    as_image(pixels).save(content, "JPEG", quality=draw.whole(40, 95))
    picture = Image.open(content)
    return picture.convert("L") if draw.chance(0.3) else picture.convert("RGB")


# --- Kinds -----------------------------------------------------------------------------------


def plain(draw):
    """Drawn on a computer: even paper of any colour, dark on light or light on dark."""
    page = paper(draw, *size_of(draw), draw.between(0.7, 1))
    write(draw, page, 0.15, 0.85, 0.04)
    return as_image(1 - page if draw.chance(0.5) else page)


def lamp(draw):
    page = paper(draw, *size_of(draw))
    write(draw, page)
    return taken(draw, lit(draw, page, 0.75))


def board(draw):
    """Chalk on a blackboard, or a white pen on dark paper."""
    page = paper(draw, *size_of(draw), draw.between(0.08, 0.3))
    write(draw, page, shade=colour(draw, draw.between(0.65, 0.95)))
    return taken(draw, lit(draw, page))


def shadow(draw):
    """The shadow of a hand or of a phone, its rim soft or sharp."""
    page = paper(draw, *size_of(draw))
    write(draw, page)
    height, width = page.shape[:2]
    y, x = np.mgrid[:height, :width] / float(max(height, width))
    if draw.chance(0.6):
        at = (draw.one_of(0, height), draw.one_of(0, width))
        away = np.hypot(y - at[0] / max(height, width), x - at[1] / max(height, width))
    else:
        turn = draw.between(-0.5, 0.5)
        away = np.cos(turn) * x + np.sin(turn) * y
    reach, soft = draw.between(0.2, 0.5), draw.between(0.008, 0.06)
    dim = 1 - draw.between(0.25, 0.6) / (1 + np.exp(np.clip((away - reach) / soft, -50, 50)))
    return taken(draw, lit(draw, page * dim[..., None], 0.15))


def sheet(draw):
    """A whole sheet on a table, tilted and in perspective."""
    height, width = size_of(draw)
    page = paper(draw, *size_of(draw), draw.between(0.75, 0.97))
    write(draw, page, 0.2, 0.6, 0.12)
    place = np.array([(0.17, 0.17), (0.83, 0.17), (0.83, 0.83), (0.17, 0.83)])
    place += draw.random.uniform(-0.08, 0.08, (4, 2))
    turn = np.deg2rad(draw.between(-8, 8))
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    place = (((place - 0.5) @ spin) + 0.5) * (width, height)
    return taken(draw, lit(draw, in_perspective(draw, page, ground(draw, height, width), place)))


def corner(draw):
    """A sheet of which the picture shows one, two or three edges."""
    height, width = size_of(draw)
    page = paper(draw, height, width, draw.between(0.75, 0.97))
    write(draw, page, 0.2, 0.5, 0.25)
    inside, beyond = (lambda: draw.between(0.04, 0.2)), (lambda: -draw.between(0.02, 0.1))
    hidden = [inside() if draw.chance(0.5) else beyond() for _ in range(4)]
    if max(hidden) < 0:
        hidden[draw.whole(0, 3)] = inside()
    left, top, right, bottom = hidden
    place = np.array([(left, top), (1 - right, top), (1 - right, 1 - bottom), (left, 1 - bottom)])
    place = (place + draw.random.uniform(-0.02, 0.02, (4, 2))) * (width, height)
    return taken(draw, lit(draw, in_perspective(draw, page, ground(draw, height, width), place)))


def sheet_end(draw):
    """A sheet that ends at one side, on cloth or wood."""
    page = paper(draw, *size_of(draw), draw.between(0.65, 0.95))
    height, width = page.shape[:2]
    depth = draw.between(0.03, 0.22)
    texture = draw.one_of(cloth, wood)(draw, height, width)
    slope = draw.between(-0.05, 0.05)
    y, x = np.mgrid[:height, :width]
    beyond = y / height + slope * x / width < depth
    write(draw, page[int((depth + 0.06) * height) :], 0.2, 0.6)
    page = np.where(beyond[..., None], texture, page)
    page = np.rot90(page, draw.whole(0, 3)) if draw.digit == 0 else page
    return taken(draw, lit(draw, page))


def tile(draw):
    """A tile, a card or a picture within a picture, upright or tilted."""
    height, width = size_of(draw)
    low, high = draw.between(0, 0.3), draw.between(0.65, 1)
    background = draw.one_of(0.0, 0.5, 1.0, draw.between(0, 1))
    dark_tile = draw.chance(0.5)
    if abs(background - (low if dark_tile else high)) < 0.2:
        background = high if dark_tile else low
    side = int(draw.between(0.4, 0.75) * min(height, width))
    page = paper(draw, side, side, low if dark_tile else high)
    write(draw, page, 0.4, 0.75, 0.1, shade=colour(draw, high if dark_tile else low))
    turn = np.deg2rad(draw.one_of(0, 0, draw.between(-15, 15)))
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    square = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]) * side
    middle = np.array([width, height]) * draw.random.uniform(0.47, 0.53, 2)
    whole = in_perspective(
        draw, page, paper(draw, height, width, background), square @ spin + middle
    )
    return as_image(whole) if draw.chance(0.5) else taken(draw, lit(draw, whole, 0.2))


def plot(draw):
    """A screenshot of a plot: an image with axes, ticks, their labels and a title."""
    side = draw.whole(180, 360)
    low, high = (0.27, 0.98) if draw.chance(0.3) else (0.0, 1.0)
    is_dark = draw.chance(0.7)
    page = paper(draw, side, side, low if is_dark else high)
    write(draw, page, 0.5, 0.75, 0.1, shade=[high if is_dark else low] * 3)
    whole = Image.new("RGB", (side + 90, side + 90), "white")
    whole.paste(as_image(page), (50, 40))
    pen = ImageDraw.Draw(whole)
    pen.rectangle((49, 39, 50 + side, 40 + side), outline="black")
    for step in range(0, 28, draw.one_of(5, 10)):
        at = round((step + 0.5) / 28 * side)
        pen.line((50 + at, 41 + side, 50 + at, 45 + side), fill="black")
        pen.text((46 + at, 47 + side), str(step), fill="black")
        pen.line((45, 40 + at, 49, 40 + at), fill="black")
        pen.text((30, 35 + at), str(step), fill="black")
    if draw.chance(0.5):
        pen.text((50 + side // 3, 16), f"label: {draw.digit}", fill="black", font_size=14)
    return whole


def lines(draw, page, both):
    """Draws ruled or squared lines of any strength on a page, a little tilted."""
    height, width = page.shape[:2]
    step = max(height, width) * (draw.between(0.04, 0.09) if both else draw.between(0.07, 0.14))
    ink = Image.new("L", (width, height))
    pen = ImageDraw.Draw(ink)
    tilt, thick = (
        np.tan(np.deg2rad(draw.between(-3, 3))),
        draw.whole(1, 3 + max(height, width) // 250),
    )
    for at in np.arange(-0.3 * height, 1.3 * height, step):
        pen.line((0, at, width, at + tilt * width), fill=255, width=thick)
    if both:
        for at in np.arange(-0.3 * width, 1.3 * width, step):
            pen.line((at, 0, at - tilt * height, height), fill=255, width=thick)
    mask = np.asarray(ink.filter(ImageFilter.GaussianBlur(0.7)), np.float32) / 255
    shade = page[0, 0] * draw.between(0.4, 0.93) * np.array([0.92, 0.98, 1.05])
    page[...] = page * (1 - mask[..., None]) + shade * mask[..., None]


def ruled(draw):
    page = paper(draw, *size_of(draw), draw.between(0.75, 0.95))
    lines(draw, page, both=False)
    write(draw, page, 0.3, 0.65, shade=colour(draw, draw.between(0.08, 0.3)))
    return taken(draw, lit(draw, page))


def squared(draw):
    page = paper(draw, *size_of(draw), draw.between(0.75, 0.95))
    lines(draw, page, both=True)
    write(draw, page, 0.3, 0.65, shade=colour(draw, draw.between(0.08, 0.3)))
    return taken(draw, lit(draw, page))


def print_through(draw):
    """Print of the other side shines through."""
    page = paper(draw, *size_of(draw), draw.between(0.75, 0.95))
    height, width = page.shape[:2]
    mask = Image.new("L", (width, height))
    pen = ImageDraw.Draw(mask)
    size = draw.whole(12, 24)
    words = "".join(map(chr, draw.random.integers(97, 123, 200)))
    for row, top in enumerate(range(10, height, int(size * draw.between(1.6, 6)))):
        pen.text(
            (draw.whole(5, 40), top), words[row % 150 :][: draw.whole(4, 40)], 255, font_size=size
        )
    mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT).filter(ImageFilter.GaussianBlur(1.2))
    put(page, np.asarray(mask, np.float32) / 255, 0, 0, page[0, 0] * draw.between(0.7, 0.93))
    write(draw, page, 0.12, 0.6, shade=colour(draw, draw.between(0.08, 0.3)))
    return taken(draw, lit(draw, page))


def halftone(draw):
    """Printed in dots, as in a newspaper, or dithered."""
    page = paper(draw, *size_of(draw), draw.between(0.75, 0.92))
    write(draw, page, 0.35, 0.75, shade=colour(draw, draw.between(0.1, 0.35)))
    grey = as_image(page).convert("L")
    if draw.chance(0.3):
        return grey.resize([side // 2 for side in grey.size]).convert("1")
    height, width = grey.height, grey.width
    step, turn = draw.between(3.5, 8), np.deg2rad(draw.one_of(0, 15, 45))
    y, x = np.mgrid[:height, :width]
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    screen = 0.5 + 0.25 * (np.cos(6.2832 * along / step) + np.cos(6.2832 * across / step))
    tone = np.asarray(grey.filter(ImageFilter.GaussianBlur(1)), float) / 255
    dots = 1 / (1 + np.exp(-(tone - screen) * 12))
    return Image.fromarray((dots * 255).astype(np.uint8))


def noisy(draw):
    """A dark room: strong noise, and JPEG's blocks."""
    page = paper(draw, *size_of(draw), draw.between(0.5, 0.9))
    write(draw, page, 0.3, 0.75, shade=colour(draw, draw.between(0.05, 0.25)))
    if draw.chance(0.3):  # salt and pepper
        hit = draw.random.random(page.shape[:2]) < draw.between(0.01, 0.08)
        page[hit] = draw.random.integers(0, 2, (hit.sum(), 1))
        return as_image(page)
    return taken(
        draw, lit(draw, page) + draw.random.normal(0, draw.between(0.04, 0.16), page.shape)
    )


def edge(draw):
    """The digit fills the picture, and touches one or two of its edges."""
    ink = strokes(draw, draw.whole(60, 300))
    page = paper(draw, *(round(side * draw.between(1.0, 1.6)) + 8 for side in ink.shape))
    space = [room - side for room, side in zip(page.shape[:2], ink.shape, strict=True)]
    top, left = (draw.one_of(0, space_) for space_ in space)
    if draw.chance(0.6):
        top, left = draw.one_of((top, space[1] // 2), (space[0] // 2, left))
    put(page, ink, top, left, dark(draw))
    return as_image(page) if draw.chance(0.5) else taken(draw, lit(draw, page, 0.2))


def neighbour(draw):
    """Cut out of a row: parts of the digits beside it reach in."""
    size = draw.whole(120, 300)
    ink = strokes(draw, size)
    height, width = ink.shape
    gap = int(draw.between(0.12, 0.3) * size)
    cut = [int(draw.between(0.05, 0.4) * size * draw.one_of(0, 1)) for _ in range(2)]
    cut[draw.whole(0, 1)] = int(draw.between(0.08, 0.4) * size)
    page = paper(draw, height + 2 * gap, width + 2 * gap + sum(cut))
    shade = dark(draw)
    put(page, ink, gap + draw.whole(-gap // 2, gap // 2), cut[0] + gap, shade)
    for side, depth in enumerate(cut):
        if depth:
            other = strokes(draw, size, draw.one_of(0, 2, 3, 5, 6, 8, 9))
            left = depth - other.shape[1] if side == 0 else page.shape[1] - depth
            put(page, other, gap + draw.whole(-gap // 2, gap // 2), left, shade)
    return as_image(page) if draw.chance(0.5) else taken(draw, lit(draw, page, 0.25))


def box(draw):
    """A box of a form around the digit, a little tilted."""
    page = paper(draw, *size_of(draw), draw.between(0.8, 0.97))
    top, left, height, width = write(draw, page, 0.3, 0.5, 0.22)
    room = draw.between(0.15, 0.4) * max(height, width)
    frame = Image.new("L", page.shape[1::-1])
    pen, middle = ImageDraw.Draw(frame), np.array([left + width / 2, top + height / 2])
    half = np.array([max(width, 0.6 * height) / 2 + room, height / 2 + room])
    turn = np.deg2rad(draw.between(-5, 5))
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1), (1, -1)])
    points = [tuple(point) for point in (signs * half) @ spin + middle]
    pen.line(points, fill=255, width=draw.whole(2, 8), joint="curve")
    shade = page[0, 0] * draw.between(0.1, 0.7)
    put(page, np.asarray(frame, np.float32) / 255, 0, 0, shade)
    return taken(draw, lit(draw, page, 0.2))


def small(draw):
    """A small digit on a large page."""
    long = draw.whole(900, 1600)
    page = paper(draw, long, int(long * draw.between(0.65, 0.8)))
    write(draw, page, 0.05, 0.15, 0.1)
    return taken(draw, lit(draw, page, 0.5))


def several(draw):
    """Several digits in a row, in rows or in a grid: to be refused."""
    rows, columns = draw.one_of((1, 2), (1, 3), (1, 5), (2, 1), (3, 1), (2, 2), (2, 3), (3, 3))
    size, gap = draw.whole(50, 110), draw.between(0.25, 0.6)
    cell = int(size * (1 + gap))
    page = paper(draw, rows * cell + cell // 2, columns * cell + cell // 2)
    shade = dark(draw)
    for row in range(rows):
        for column in range(columns):
            ink = strokes(draw, size, draw.whole(0, 9), turn=5)
            top = cell // 4 + row * cell + (cell - ink.shape[0]) // 2
            put(page, ink, top, cell // 4 + column * cell + (cell - ink.shape[1]) // 2, shade)
    return as_image(page) if draw.chance(0.5) else taken(draw, lit(draw, page, 0.25))


KINDS = {
    kind.__name__: kind
    for kind in (
        *(plain, lamp, board, shadow, sheet, corner, sheet_end, tile, plot, ruled, squared),
        *(print_through, halftone, noisy, edge, neighbour, box, small, several),
    )
}


def photo(kind, seed, source, split="test"):
    """A picture of that kind, and the digit on it."""
    draw = Draw(kind, seed, source, split)
    return KINDS[kind](draw), draw.digit
