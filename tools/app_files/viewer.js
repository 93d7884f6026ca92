// The answer to a caption, drawn in the browser: hovering, both sliders and pinned words ask nobody.
// element, props, watch: what Gradio hands to the script of an HTML component.

const KEPT = "kept words together", WHOLE = "whole caption", PLAIN = "picture alone";
let state = null; // of the answer that is shown
let latest = 0; // number of the newest answer: an older picture that loads later is not shown

function text(tag, name, content) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (content !== undefined) node.textContent = content; // never as HTML: words come from strangers
  return node;
}

function loadImage(uri) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = failed;
    image.src = uri;
  });
}

function pixelsOf(image, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

async function mapOf(entry, width, height) {
  if (!entry.values) {
    const data = pixelsOf(await loadImage(entry.map), width, height);
    entry.values = new Uint8Array(width * height);
    for (let i = 0; i < entry.values.length; i++) entry.values[i] = data[4 * i];
  }
  return entry.values;
}

// Which words a pane keeps: by Otsu's cut, or by the slider's.
function isKept(word) {
  return state.cut === null ? word.kept : word.norm >= state.cut;
}

async function valuesOf(pane, what) {
  const { width, height } = state.answer.picture;
  if (what === PLAIN) return null;
  if (what === WHOLE) return mapOf(pane.caption, width, height);
  if (what !== KEPT) return mapOf(pane.words[what], width, height);
  const values = new Uint8Array(width * height);
  for (const word of pane.words.filter(isKept)) {
    const one = await mapOf(word, width, height);
    for (let i = 0; i < values.length; i++) if (one[i] > values[i]) values[i] = one[i];
  }
  return values;
}

// How opaque a value is: none up to `clear`, all from `full` on; above a level, a mask has it all.
function steps(look, level) {
  const opacity = new Float32Array(256);
  for (let v = 0; v < 256; v++) {
    const t = Math.min(1, Math.max(0, (v / 255 - look.clear) / (look.full - look.clear)));
    opacity[v] = level > 0 ? Number(v / 255 > level) : t * t * (3 - 2 * t);
  }
  return opacity;
}

// Light: the picture keeps its colours where the map is high, and is faded grey elsewhere.
function lit(source, values, look, level) {
  const out = new Uint8ClampedArray(source.length), opacity = steps(look, level);
  for (let i = 0, k = 0; k < values.length; i += 4, k++) {
    const a = opacity[values[k]];
    const grey = (source[i] + source[i + 1] + source[i + 2]) / 3;
    const base = 255 * look.faded + (1 - look.faded) * grey;
    for (let c = 0; c < 3; c++) out[i + c] = a * source[i + c] + (1 - a) * base;
    out[i + 3] = 255;
  }
  return out;
}

// Heat: the map's values alone, 0 blue, 0.5 white, 1 red; what a level cuts off is 0.
function heat(source, values, look, level) {
  const out = new Uint8ClampedArray(source.length);
  for (let i = 0, k = 0; k < values.length; i += 4, k++) {
    const v = level > 0 ? Number(values[k] / 255 > level) : values[k] / 255;
    const red = Math.min(1, 2 * v), blue = Math.min(1, 2 - 2 * v);
    out[i] = 255 * red;
    out[i + 1] = 255 * Math.min(red, blue);
    out[i + 2] = 255 * blue;
    out[i + 3] = 255;
  }
  return out;
}

async function paint(shown) {
  const mine = state, what = shown.hover ?? shown.pinned;
  const order = ++mine.order; // a newer painting that ends earlier must not be painted over
  const { width, height } = mine.answer.picture;
  for (const view of mine.views) {
    const values = await valuesOf(view.pane, what);
    if (mine !== state || order !== mine.order) return;
    const draw = mine.heat ? heat : lit;
    const data = values ? draw(mine.source, values, mine.answer.overlay, mine.level) : mine.source;
    view.canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
    placeDot(view, what);
    view.now.textContent = nameOf(view.pane, what);
  }
  mark(what);
  element.querySelector(".viewer").dataset.shown = typeof what === "number" ? mine.answer.words[what] : what;
}

function placeDot(view, what) {
  const one = what === WHOLE ? view.pane.caption : view.pane.words[what];
  view.dot.hidden = !one;
  if (one) {
    view.dot.style.left = 100 * one.at[0] + "%";
    view.dot.style.top = 100 * one.at[1] + "%";
  }
}

function nameOf(pane, what) {
  if (what === WHOLE) return "caption " + pane.caption.score.toFixed(2);
  if (typeof what !== "number") return what;
  return pane.words[what].text + " " + pane.words[what].score.toFixed(2);
}

function mark(what) {
  for (const node of element.querySelectorAll("[data-what]")) {
    node.classList.toggle("lit", node.dataset.what === String(what));
    if (node.tagName === "BUTTON")
      node.setAttribute("aria-pressed", String(node.dataset.what === String(state.shown.pinned)));
  }
}

// Colours of words and bars, which follow the cut.
function refresh() {
  const { answer, views } = state;
  answer.words.forEach((_, i) => {
    const kept = views.map((view) => isKept(view.pane.words[i]));
    for (const node of element.querySelectorAll(`button.word[data-what="${i}"]`)) {
      node.classList.toggle("kept", kept[kept.length - 1]);
      node.classList.toggle("some", !kept[kept.length - 1] && kept.includes(true));
      node.classList.toggle("cut", !kept.includes(true));
    }
    views.forEach((view, k) => {
      view.rows[i].classList.toggle("kept", kept[k]);
      view.rows[i].classList.toggle("lost", !kept[k]);
    });
  });
  for (const view of views) {
    const cut = state.cut ?? view.pane.cut ?? 0;
    for (const tick of view.ticks) tick.style.left = `calc(${100 * cut}% - 1px)`;
    view.kept.textContent = view.pane.words.filter(isKept).length + " of " + answer.words.length + " kept";
  }
  const first = views[views.length - 1].pane.cut ?? 0;
  state.cutSlider.value = state.cut ?? first;
  state.cutValue.textContent = state.cut === null ? "Otsu’s cut" : state.cut.toFixed(2);
  state.auto.hidden = state.cut === null;
  state.levelValue.textContent = state.level > 0 ? "mask above " + state.level.toFixed(2) : "soft map";
  return paint(state.shown);
}

// Hovering shows, a click pins.
function listen(node, what) {
  node.dataset.what = what;
  const show = (value) => { state.shown.hover = value; paint(state.shown); };
  node.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") show(what); });
  node.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") show(null); });
  node.addEventListener("click", () => { state.shown.pinned = what; show(null); });
  return node;
}

function sentence(answer) {
  const box = text("div"), words = text("div", "sentence"), views = text("div", "sentence");
  answer.words.forEach((word, i) => words.append(pill("word", word, i)));
  for (const what of [WHOLE, KEPT, PLAIN]) views.append(pill("whole", what, what));
  const style = text("button", "style", "as heat map");
  style.type = "button";
  style.setAttribute("aria-pressed", "false");
  style.addEventListener("click", () => {
    state.heat = !state.heat;
    style.setAttribute("aria-pressed", String(state.heat));
    paint(state.shown);
  });
  views.append(style);
  box.append(words, views);
  return box;
}

function pill(name, content, what) {
  const button = listen(text("button", name, content), what);
  button.type = "button";
  return button;
}

function slider(title, max, input) {
  const label = text("label", "", title);
  const value = text("span", "value");
  const range = text("input");
  Object.assign(range, { type: "range", min: 0, max, step: 0.01 });
  range.setAttribute("aria-label", title);
  range.addEventListener("input", () => input(Number(range.value)));
  label.append(value, range);
  return { label, value, range };
}

function sliders() {
  const box = text("div", "sliders");
  const cut = slider("Keep words above", 1, (value) => { state.cut = value; refresh(); });
  const level = slider("Cut the map", 0.95, (value) => { state.level = value; refresh(); });
  level.range.value = 0;
  const auto = text("button", "auto", "back to Otsu’s cut");
  auto.type = "button";
  auto.addEventListener("click", (event) => { event.preventDefault(); state.cut = null; refresh(); });
  cut.label.insertBefore(auto, cut.range);
  Object.assign(state, { cutSlider: cut.range, cutValue: cut.value, auto, levelValue: level.value });
  box.append(cut.label, level.label);
  return box;
}

function bars(pane, view) {
  const box = text("div", "bars");
  view.rows = pane.words.map((word, i) => {
    const row = listen(text("div", "row"), i);
    const track = text("div", "track"), fill = text("div", "fill"), tick = text("div", "mark");
    fill.style.width = Math.max(2, 100 * word.norm) + "%";
    tick.hidden = pane.cut === null;
    track.append(fill, tick);
    view.ticks.push(tick);
    row.append(text("div", "name", word.text), track, text("div", "score", word.score.toFixed(2)));
    box.append(row);
    return row;
  });
  return box;
}

function paneView(pane) {
  const { width, height } = state.answer.picture;
  const box = text("section", "pane"), title = text("h3"), stage = text("div", "stage");
  const view = { pane, box, ticks: [], now: text("span", "now"), kept: text("p", "small") };
  view.canvas = Object.assign(text("canvas"), { width, height });
  view.canvas.setAttribute("role", "img");
  view.canvas.setAttribute("aria-label", "map over the picture, " + pane.title);
  view.dot = text("div", "dot");
  title.append(text("span", "", pane.title), view.now);
  stage.append(view.canvas, view.dot);
  box.append(title, stage, bars(pane, view), view.kept);
  return view;
}

async function render() {
  const root = element.querySelector(".viewer");
  const answer = props.value, turn = ++latest;
  root.replaceChildren();
  state = null;
  if (!answer || answer.notice) {
    const hint = "Drop a picture or choose an example, then write a caption.";
    root.append(answer ? text("div", "notice", answer.notice) : text("div", "empty", hint));
    root.dataset.shown = answer ? "notice" : "";
    root.dataset.picture = "";
    return;
  }
  const mine = { answer, cut: null, level: 0, heat: false, order: 0, shown: { pinned: WHOLE, hover: null } };
  const image = await loadImage(answer.picture.image);
  if (turn !== latest) return;
  state = mine;
  state.source = pixelsOf(image, answer.picture.width, answer.picture.height);
  state.views = answer.panes.map(paneView);
  const panes = text("div", "panes");
  panes.append(...state.views.map((view) => view.box));
  root.replaceChildren(sentence(answer), sliders(), panes);
  root.dataset.picture = answer.picture.name;
  root.dataset.refined = answer.refined;
  const help = "Hover or tap a word: the picture keeps its colours where the map is high; the dot is the nearest pixel. "
    + "Score: the cosine there; bar: this caption’s scores from 0 to 1; line: the cut.";
  root.append(text("p", "small", [answer.picture.note, help].filter(Boolean).join(". ")));
  await refresh();
}

watch("value", render);
render();
