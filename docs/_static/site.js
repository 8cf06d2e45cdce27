// Copy buttons, images that open in full size, long names that break at their underscores, and a
// mark on tables that are cut off.

// Diagrams and plots on white, of which the dark theme shows the negative.
const FIGURE = new RegExp(
  String.raw`\.svg$|_(confusion|mistakes)\.png$|(residual|benchmarks|growth)\.png$`
  + String.raw`|plot_(compose|export|report|torchvision)_\d+\.png$`
);

// What to copy: all lines, or of a session in Python its input without the prompts.
function input(text) {
  const lines = text.split("\n");
  if (!lines.some(line => line.startsWith(">>> "))) return text;
  return lines
    .filter(line => /^(>>>|\.\.\.)( |$)/.test(line))
    .map(line => line.slice(4))
    .join("\n");
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");  // a page from the disk, in older browsers
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function addCopyButton(block) {
  const button = document.createElement("button");
  button.className = "copy";
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await copy(input(block.querySelector("pre").textContent.trimEnd()));
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  block.append(button);
}

function opensLarge(image) {
  if (image.closest("a") || image.closest(".sphx-glr-thumbcontainer")) return;
  image.classList.add("opens");
  image.title = "Open in full size";
  image.addEventListener("click", () => window.open(image.src, "_blank"));
}

function mayBreakAtUnderscores(heading) {
  const text = heading.firstChild;
  const parts = text.textContent.split(/(?<=_)/);
  text.replaceWith(...parts.flatMap(part => [part, document.createElement("wbr")]));
}

function markCutTables() {
  for (const box of document.querySelectorAll(".table-wrapper"))
    box.toggleAttribute("data-cut", box.scrollWidth > box.clientWidth + 1);
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("article div.highlight").forEach(addCopyButton);
  for (const image of document.querySelectorAll("article img")) {
    if (FIGURE.test(image.src)) image.classList.add("figure");
    opensLarge(image);
  }
  document.querySelectorAll("article h1").forEach(mayBreakAtUnderscores);
  markCutTables();
  addEventListener("resize", markCutTables);
});
