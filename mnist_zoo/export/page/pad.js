// The pad: strokes by mouse, finger or pen; undo and clear; what the network reads.

const pad = document.getElementById("pad"), pen = pad.getContext("2d");
const history = [[]]; // the strokes after each change
let pointer = null; // the one that is drawing

const strokes = () => history.at(-1);

function show() {
  pen.setTransform(pad.width / 600, 0, 0, pad.height / 400, 0, 0);
  pen.clearRect(0, 0, 600, 400);
  pen.strokeStyle = getComputedStyle(pad).color;
  drawLines(pen, strokes());
  document.getElementById("undo").disabled = history.length === 1;
  document.getElementById("clear").disabled = !strokes().length;
}

/**
 * What each digit of the drawing may be: its image; its classes, the most probable first; its
 * familiarity; and whether it is a digit at all.
 */
function recognise() {
  const found = digitsOf(strokes()).map(group => {
    const drawn = prepare(inkOf(group));
    const image = network.inverted ? drawn.map(value => 255 - value) : drawn;
    const tensors = computed(image), probabilities = softmax([...tensors.at(-1).data]);
    const ranked = probabilities.map((probability, i) => ({name: network.classes[i], probability}));
    ranked.sort((a, b) => b.probability - a.probability);
    return {image, ranked, familiarity: familiarity(tensors)};
  });
  const others = strange(found.map(digit => digit.familiarity));
  return found.map((digit, i) => ({...digit, isDigit: !others[i]}));
}

const NOT_A_DIGIT = "Not a digit?";

function read() {
  const found = recognise(), names = found.map(({ranked, isDigit}) => isDigit ? ranked[0].name : "?");
  const text = names.join(names.some(name => name.length > 1) ? " " : "");
  document.getElementById("reading").value = text === "?" ? NOT_A_DIGIT : text;
  document.getElementById("found").replaceChildren(...found.map(card));
}

function element(name, content = [], attributes = {}) {
  const made = document.createElement(name);
  made.append(...[content].flat());
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function card({image, ranked, isDigit}) {
  const seen = element("canvas", [], {width: 28, height: 28, role: "img", "aria-label": "What the network sees"});
  const pixels = new ImageData(28, 28);
  image.forEach((value, i) => pixels.data.set([value, value, value, 255], 4 * i));
  seen.getContext("2d").putImageData(pixels, 0, 0);
  const rows = ranked.slice(0, 3).map(({name, probability}) => element("li", [
    element("span", name),
    element("span", [], {class: "bar", style: `width: ${100 * probability}%`}),
    element("span", `${(100 * probability).toFixed(1)} %`),
  ]));
  const told = isDigit ? [] : [element("p", NOT_A_DIGIT)];
  return element("li", [seen, element("div", [...told, element("ol", rows)])], isDigit ? {} : {class: "strange"});
}

function change(next) {
  history.push(next);
  show();
  read();
}

function undo() {
  if (pointer !== null || history.length === 1) return;
  history.pop();
  show();
  read();
}

function clear() {
  if (pointer === null && strokes().length) change([]);
}

function point(event) {
  const box = pad.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * 600, (event.clientY - box.top) / box.height * 400];
}

pad.addEventListener("pointerdown", event => {
  if (pointer !== null || event.button) return;
  event.preventDefault();
  pointer = event.pointerId;
  pad.setPointerCapture(pointer);
  history.push([...strokes(), [point(event)]]);
  show();
});
pad.addEventListener("pointermove", event => {
  if (event.pointerId !== pointer) return;
  const events = event.getCoalescedEvents?.() ?? [];
  strokes().at(-1).push(...(events.length ? events : [event]).map(point));
  show();
});
for (const end of ["pointerup", "pointercancel"])
  pad.addEventListener(end, event => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    read();
  });
document.getElementById("undo").addEventListener("click", undo);
document.getElementById("clear").addEventListener("click", clear);
addEventListener("keydown", event => {
  if (event.key === "Escape") clear();
  if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) event.preventDefault(), undo();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
show();
