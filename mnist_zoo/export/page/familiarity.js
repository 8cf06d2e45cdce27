// Whether a drawing is a digit at all, as mnist_zoo's `Familiarity` tells it.

const record = network.familiarity;
if (record) {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  record.prototypes = Float32Array.from(record.prototypes, letter => letters.indexOf(letter) - 32);
  record.gaussians = numbers(record.gaussians, true);
}

/** Feature maps as numbers: the means of the four quarters of each map. */
function quarters({shape, data}) {
  const [, channels, rows, columns] = shape;
  if (shape.length < 4 || Math.min(rows, columns) <= 2) return data;
  const part = (size, at) => [Math.floor(at * size / 2), Math.ceil((at + 1) * size / 2)];
  return Float32Array.from({length: 4 * channels}, (_, i) => {
    const [top, bottom] = part(rows, i >> 1 & 1), [left, right] = part(columns, i & 1);
    let sum = 0;
    for (let row = top; row < bottom; row++)
      for (let c = left; c < right; c++) sum += data[((i >> 2) * rows + row) * columns + c];
    return sum / (bottom - top) / (right - left);
  });
}

/** The largest cosine of the features and a typical one. */
function similarity(features) {
  const {prototypes} = record, length = features.reduce((sum, value) => sum + value * value, 1e-24);
  let most = -1;
  for (let start = 0; start < prototypes.length; start += features.length) {
    let product = 0, square = 0;
    features.forEach((value, i) => {
      product += value * prototypes[start + i];
      square += prototypes[start + i] ** 2;
    });
    most = Math.max(most, product / Math.sqrt(length * square));
  }
  return most;
}

/** The Mahalanobis distance of logits from those of the nearest class. */
function distance(values) {
  const {gaussians} = record, count = values.length, classes = gaussians.length / (count + count * count);
  let least = Infinity;
  for (let k = 0; k < classes; k++) {
    let sum = 0;
    for (let j = 0; j < count; j++) {
      let product = 0;
      for (let i = 0; i < count; i++)
        product += (values[i] - gaussians[k * count + i]) * gaussians[(classes + k * count + i) * count + j];
      sum += product * product;
    }
    least = Math.min(least, sum);
  }
  return Math.sqrt(least);
}

/** About 1 for an image like those that the network learnt, negative for another; null if it cannot tell. */
function familiarity(tensors) {
  if (!record) return null;
  const [image, values] = [tensors[0].data, [...tensors.at(-1).data]], most = Math.max(...values);
  const ink = (image.reduce((a, b) => a + b) / image.length / 255 - record.mean) / record.std;
  const signs = [
    similarity(quarters(tensors[record.features])),
    most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0)),
    -distance(values),
    -Math.abs(ink - record.ink),
  ];
  return Math.min(...signs.map((sign, i) => (sign - record.limits[i]) / record.spans[i]));
}

/** Which of several drawings are no digits: beside a digit, only what is not familiar at all. */
function strange(familiarities) {
  const middle = familiarities.slice().sort((a, b) => a - b)[familiarities.length >> 1];
  return familiarities.map(value => value !== null && value < (middle < 0 ? 0 : -0.3));
}
