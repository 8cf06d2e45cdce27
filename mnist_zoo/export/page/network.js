// The network: `logits(image)` runs its steps on one image. A tensor is {shape, data}.

/** Numbers of half or single precision, little-endian, in base64. */
function numbers(text, half) {
  const view = new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  return half
    ? Float32Array.from({length: view.byteLength / 2}, (_, i) => fromHalf(view.getUint16(2 * i, true)))
    : Float32Array.from({length: view.byteLength / 4}, (_, i) => view.getFloat32(4 * i, true));
}

function fromHalf(bits) {
  const sign = bits >> 15 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 1023;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}

const sizeOf = shape => shape.reduce((product, size) => product * size, 1);

/** The maps x with zeros around them, as far as the windows of a step reach. */
function padded(step, x, tall, wide) {
  const [, , height, width] = step.shape, [, channels, rows, columns] = x.shape;
  const [sy, sx] = step.strides, [dy, dx] = step.dilations, [top, left] = step.pads;
  const high = Math.max((height - 1) * sy + (tall - 1) * dy + 1, top + rows);
  const long = Math.max((width - 1) * sx + (wide - 1) * dx + 1, left + columns);
  const data = new Float32Array(channels * high * long);
  for (let c = 0; c < channels; c++)
    for (let row = 0; row < rows; row++) {
      const from = (c * rows + row) * columns;
      data.set(x.data.subarray(from, from + columns), (c * high + top + row) * long + left);
    }
  return {data, high, long};
}

function conv(step, x, w, bias) {
  const [, outs, height, width] = step.shape, [, ins, tall, wide] = w.shape;
  const [sy, sx] = step.strides, [dy, dx] = step.dilations;
  const {data, high, long} = padded(step, x, tall, wide), taps = ins * tall * wide;
  const offsets = places([ins, tall, wide], [high * long, dy * long, dx]);
  const out = new Float32Array(sizeOf(step.shape));
  for (let o = 0; o < outs; o++) {
    const plane = o * height * width, first = Math.floor(o * step.group / outs) * ins * high * long;
    if (bias) out.fill(bias.data[o], plane, plane + height * width);
    for (let k = 0; k < taps; k += 8) { // eight at a time: the loop inside is then much faster
      const at = i => k + i < taps ? first + offsets[k + i] : 0;
      const by = i => k + i < taps ? w.data[o * taps + k + i] : 0;
      const a = at(0), b = at(1), c = at(2), d = at(3), e = at(4), f = at(5), g = at(6), h = at(7);
      const A = by(0), B = by(1), C = by(2), D = by(3), E = by(4), F = by(5), G = by(6), H = by(7);
      for (let y = 0; y < height; y++)
        for (let i = 0, j = y * sy * long, to = plane + y * width; i < width; i++, j += sx)
          out[to + i] += A * data[a + j] + B * data[b + j] + C * data[c + j] + D * data[d + j]
            + E * data[e + j] + F * data[f + j] + G * data[g + j] + H * data[h + j];
    }
  }
  return out;
}

function pool(step, x) {
  const [, channels, height, width] = step.shape, [, , rows, columns] = x.shape;
  const [tall, wide] = step.kernel, [sy, sx] = step.strides, [top, left, bottom, right] = step.pads;
  const out = new Float32Array(sizeOf(step.shape));
  for (let i = 0, c = 0; c < channels; c++)
    for (let y = 0; y < height; y++)
      for (let z = 0; z < width; z++, i++) {
        let most = -Infinity, sum = 0, count = 0;
        for (let row = y * sy - top; row < y * sy - top + tall; row++)
          for (let column = z * sx - left; column < z * sx - left + wide; column++) {
            const inside = row >= 0 && row < rows && column >= 0 && column < columns;
            if (inside) {
              const value = x.data[(c * rows + row) * columns + column];
              most = Math.max(most, value);
              sum += value;
            }
            count += inside || step.padded && row < rows + bottom && column < columns + right;
          }
        out[i] = step.op === "MaxPool" ? most : sum / count;
      }
  return out;
}

function linear(step, x, w, bias) {
  const [outs, ins] = w.shape, out = new Float32Array(outs);
  for (let o = 0; o < outs; o++) {
    let sum = bias ? bias.data[o] : 0;
    for (let i = 0; i < ins; i++) sum += w.data[o * ins + i] * x.data[i];
    out[o] = sum;
  }
  return out;
}

function mean(step, x) {
  const each = x.data.length / sizeOf(step.shape);
  return Float32Array.from({length: sizeOf(step.shape)}, (_, i) =>
    x.data.subarray(i * each, (i + 1) * each).reduce((sum, value) => sum + value, 0) / each);
}

/** The place in a tensor of each number of a result, for strides that follow the result's axes. */
function places(shape, strides) {
  let found = [0];
  shape.forEach((size, axis) => {
    found = found.flatMap(place => Array.from({length: size}, (_, i) => place + i * strides[axis]));
  });
  return found;
}

const stridesOf = shape => shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));

function transpose(step, x) {
  const strides = stridesOf(x.shape);
  return Float32Array.from(places(step.shape, step.perm.map(axis => strides[axis])), i => x.data[i]);
}

const pairwise = combine => (step, a, b) => {
  const [first, second] = [a, b].map(({shape}) => {
    const strides = stridesOf(shape), missing = step.shape.length - shape.length;
    const along = step.shape.map((_, axis) => shape[axis - missing] > 1 ? strides[axis - missing] : 0);
    return sizeOf(shape) === sizeOf(step.shape) ? null : places(step.shape, along);
  });
  return Float32Array.from({length: sizeOf(step.shape)}, (_, i) =>
    combine(a.data[first ? first[i] : i], b.data[second ? second[i] : i]));
};

const each = map => (step, x) => x.data.map(value => map(value, step));

const OPERATORS = {
  Conv: conv, MaxPool: pool, AveragePool: pool, Linear: linear, Mean: mean, Transpose: transpose,
  Reshape: (step, x) => x.data,
  Concat: (step, ...parts) => Float32Array.from(parts.flatMap(part => [...part.data])),
  Add: pairwise((a, b) => a + b), Sub: pairwise((a, b) => a - b),
  Mul: pairwise((a, b) => a * b), Div: pairwise((a, b) => a / b),
  Relu: each(x => Math.max(x, 0)),
  LeakyRelu: each((x, {alpha}) => x < 0 ? alpha * x : x),
  Clip: each((x, {low, high}) => Math.min(Math.max(x, low), high)),
  Sigmoid: each(x => 1 / (1 + Math.exp(-x))),
  Tanh: each(Math.tanh),
  HardSigmoid: each((x, {alpha, beta}) => Math.min(Math.max(alpha * x + beta, 0), 1)),
  HardSwish: each(x => x * Math.min(Math.max(x / 6 + 0.5, 0), 1)),
};

const network = JSON.parse(document.getElementById("network").textContent);
const values = [...numbers(network.weights, network.half), ...numbers(network.others, false)];
let start = 0;
const constants = network.shapes.map(shape => {
  const data = Float32Array.from(values.slice(start, start += sizeOf(shape)));
  return {shape, data};
});

/** The image, the constants, and the results of all steps, for an image of 784 numbers from 0 to 255. */
function computed(image) {
  const tensors = [{shape: [1, 1, 28, 28], data: Float32Array.from(image)}, ...constants];
  for (const step of network.steps)
    tensors.push({shape: step.shape, data: OPERATORS[step.op](step, ...step.inputs.map(i => tensors[i]))});
  return tensors;
}

/** The logits of one image. */
const logits = image => [...computed(image).at(-1).data];

function softmax(values) {
  const most = Math.max(...values), powers = values.map(value => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map(power => power / sum);
}
