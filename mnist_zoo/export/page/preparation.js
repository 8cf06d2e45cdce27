// From strokes to images of 28×28 pixels, as mnist_zoo's as_mnist makes them of a drawing.
// A stroke is a list of points [x, y] on the pad.

const PEN = 18; // width of the line, where the pad is 600 wide and 400 high
const DRAWN = 200, MARGIN = 24; // pixels of the image on which one digit is drawn

function extent(strokes) {
  const xs = strokes.flatMap(stroke => stroke.map(([x]) => x));
  const ys = strokes.flatMap(stroke => stroke.map(([, y]) => y));
  const [left, right] = [Math.min(...xs) - PEN / 2, Math.max(...xs) + PEN / 2];
  const [top, bottom] = [Math.min(...ys) - PEN / 2, Math.max(...ys) + PEN / 2];
  return {left, right, top, bottom, width: right - left, height: bottom - top};
}

/**
 * The strokes of each digit, from left to right. Strokes above each other belong together; what is
 * far smaller than the largest digit is a slip of the pen.
 */
function digitsOf(strokes) {
  const groups = [];
  for (const stroke of strokes) {
    let group = [stroke];
    for (let at = groups.length - 1; at >= 0; at--)
      if (together(groups[at], group)) group = [...groups.splice(at, 1)[0], ...group];
    groups.push(group);
  }
  const longer = group => Math.max(extent(group).width, extent(group).height);
  const largest = Math.max(...groups.map(longer)), middle = group => extent(group).left + extent(group).right;
  return groups.filter(group => longer(group) > 0.2 * largest).sort((a, b) => middle(a) - middle(b));
}

function together(a, b) {
  const [one, other] = [extent(a), extent(b)];
  const shared = Math.min(one.right, other.right) - Math.max(one.left, other.left);
  return shared > 0.5 * Math.min(one.width, other.width);
}

function drawLines(context, strokes) {
  context.lineWidth = PEN;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    for (const [x, y] of stroke) context.lineTo(x, y);
    context.lineTo(...stroke.at(-1)); // a single point becomes a dot
    context.stroke();
  }
}

/** The ink of one digit's strokes, from 0 to 255, on an image of at most 256 pixels a side. */
function inkOf(strokes) {
  const {left, top, width, height} = extent(strokes), scale = DRAWN / Math.max(width, height);
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(width * scale) + 2 * MARGIN;
  canvas.height = Math.ceil(height * scale) + 2 * MARGIN;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.setTransform(scale, 0, 0, scale, MARGIN - left * scale, MARGIN - top * scale);
  drawLines(context, strokes);
  const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
  const ink = Float64Array.from({length: data.length / 4}, (_, i) => data[4 * i + 3]);
  return {ink, width: canvas.width, height: canvas.height};
}

/** The image (784 bytes) of one digit: strokes white, 20 pixels long, their mass in the middle. */
function prepare({ink, width, height}) {
  const digit = withoutSpecks(stretched(ink), width, height);
  const rows = new Float64Array(height), columns = new Float64Array(width);
  let total = 0, y = 0, x = 0;
  digit.forEach((value, i) => {
    const row = Math.floor(i / width), column = i % width;
    rows[row] = Math.max(rows[row], value);
    columns[column] = Math.max(columns[column], value);
    total += value;
    y += value * row;
    x += value * column;
  });
  let step = Math.max(lengthOf(rows), lengthOf(columns), 1) / 20, centre = [y / total, x / total];
  if (Math.abs(step - 1) < 0.03) [step, centre] = [1, centre.map(Math.round)];
  const down = filters(centre[0], step, height), across = filters(centre[1], step, width);
  const image = new Float64Array(784);
  for (let i = 0; i < 28; i++) {
    const line = new Float64Array(width);
    for (let row = 0; row < height; row++)
      if (down[i][row]) for (let c = 0; c < width; c++) line[c] += down[i][row] * digit[row * width + c];
    for (let j = 0; j < 28; j++) image[28 * i + j] = line.reduce((sum, value, c) => sum + value * across[j][c], 0);
  }
  const bright = Math.max(image.slice().sort().at(-20), 0.05); // 20 pixels are white
  return Uint8Array.from(image, value => Math.round(255 * Math.min(Math.max(value / bright, 0), 1)));
}

/** Ink from 0 to 1, where the middle one of the values in strokes becomes 1. */
function stretched(ink) {
  const most = ink.reduce((a, b) => Math.max(a, b)), limit = most * otsu(ink, most);
  const strokes = ink.filter(value => value > limit).sort();
  const high = strokes[(strokes.length - 1) >> 1];
  return ink.map(value => Math.min(value / high, 1));
}

/** The threshold that best separates ink from paper (Otsu 1979), as a part of the most ink. */
function otsu(ink, most) {
  const counts = new Float64Array(64);
  for (const value of ink) counts[Math.round(value / most * 63)]++;
  const sum = counts.reduce((total, count, bin) => total + count * bin, 0);
  let below = 0, sumBelow = 0, best = -1, threshold = 0;
  counts.forEach((count, bin) => {
    below += count;
    sumBelow += count * bin;
    const above = ink.length - below;
    const distance = sumBelow / Math.max(below, 1) - (sum - sumBelow) / Math.max(above, 1);
    const between = below * above * distance * distance;
    if (between > best) [best, threshold] = [between, (bin + 0.5) / 63];
  });
  return threshold;
}

/** The ink of the connected parts that have 3 % of all pixels or more, and its faint edges. */
function withoutSpecks(ink, width, height) {
  const part = new Int32Array(ink.length), areas = [0];
  for (let first = 0; first < ink.length; first++) {
    if (part[first] || ink[first] <= 0.2) continue;
    const queue = [first], label = areas.push(0) - 1;
    part[first] = label;
    while (queue.length) {
      const at = queue.pop();
      areas[label]++;
      for (const next of [at - width - 1, at - width, at - width + 1, at - 1, at + 1, at + width - 1, at + width, at + width + 1])
        if (ink[next] > 0.2 && !part[next]) queue.push(next), part[next] = label; // margins are empty
    }
  }
  const total = areas.reduce((a, b) => a + b), kept = new Uint8Array(ink.length);
  part.forEach((label, at) => {
    if (label && areas[label] >= 0.03 * total)
      for (const row of [-width, 0, width]) for (const column of [-1, 0, 1]) kept[at + row + column] = 1;
  });
  return ink.map((value, at) => kept[at] * value);
}

/** The length of the ink in a row of numbers; those at both ends count in part. */
function lengthOf(profile) {
  const first = profile.findIndex(value => value > 0.2), last = profile.findLastIndex(value => value > 0.2);
  return last - first - 1 + profile[first] + profile[last];
}

/** Weights by which 28 pixels, `step` old ones apart, are means of old ones. */
function filters(centre, step, size) {
  const wide = Math.max(step, 1);
  return Array.from({length: 28}, (_, pixel) => Float64Array.from({length: size}, (_, old) => {
    const x = Math.abs(old - centre - (pixel - 14) * step) / wide;
    if (step >= 1) return Math.max(1 - x, 0) / wide;
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1; // Keys's cubic (1981)
    return x < 2 ? ((2.5 - 0.5 * x) * x - 4) * x + 2 : 0;
  }));
}
