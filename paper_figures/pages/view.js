// @ts-check
"use strict";
/**
 * The page of a saved result: which quantity, on which axis, in which unit, which of its lines. Nothing is computed but
 * units: positions and values come from the file. Texts come from the file, too, and are shown as text.
 *
 * @typedef {{name: string, family: string, prior: number|null, axes: Record<string, (number|null)[]>}
 *   & Record<string, any>} SavedCurve
 * @typedef {{name: string, along: string, ticks: string[], lines: {name: string, x: number[], y: number[],
 *   error: number[]}[]}} SavedSeries
 * @typedef {{x: number, y: number, error: number}} Place  y with its standard error, NaN where there is none
 * @typedef {{line: number, dashed: boolean, places: Place[]}} Drawn
 * @typedef {{title: string, drawn: Drawn[]}} Panel
 */

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const DASHES = ["solid", "dashed", "dotted", "dotdash"];
const SVG_DASHES = ["", "7 4", "2 3", "7 3 2 3"];
// Lines that are drawn before a person chooses.
const FIRST_SHOWN = 12;
// Of a line with more places no point is drawn; hovering finds them all the same.
const MOST_MARKED = 80;
const BAND = 2; // standard errors
/** @type {Record<string, {label: string, log: boolean}>} */
const AXES = {
  sigma: { label: "noise level σ/α", log: true }, "log-snr": { label: "log SNR, log(α²/σ²)", log: false },
  t: { label: "time t of the process", log: false }, timestep: { label: "timestep of Stable Diffusion 1.5", log: false },
};

const view = { quantity: "curves", axis: "sigma", units: "nats", logX: false, logY: false, cursor: 0.5 };
/** Lines that are hidden, for each quantity by their number. @type {Map<string, Set<number>>} */
const hidden = new Map();

/** @returns {SavedSeries} */
const series = () => DATA.series[Number(view.quantity)];
const isCurves = () => view.quantity === "curves";
/** @returns {{name: string, family?: string}[]} */
const choices = () => (isCurves() ? DATA.curves : series().lines);

/** @returns {Set<number>} */
function hiddenNow() {
  const known = hidden.get(view.quantity);
  if (known) return known;
  const most = choices().map((_, i) => i).slice(FIRST_SHOWN);
  hidden.set(view.quantity, new Set(most));
  return /** @type {Set<number>} */ (hidden.get(view.quantity));
}

const colourOf = (/** @type {number} */ line) => COLOURS[line % COLOURS.length];
const dashOf = (/** @type {number} */ line) => Math.floor(line / COLOURS.length) % DASHES.length;
const shownLines = () => choices().map((_, i) => i).filter((i) => !hiddenNow().has(i));
const nameOf = (/** @type {number} */ line) => {
  const { name, family } = choices()[line];
  return family && family !== name ? `${family}: ${name}` : name;
};
const number = (/** @type {number|null|undefined} */ value) => value ?? NaN;

/** A value with its standard error, rounded to what it carries. @param {number} value @param {number} error */
function withError(value, error) {
  if (!Number.isFinite(value)) return "none";
  if (!(error > 0)) return shown(value, 6);
  const digits = Math.min(Math.max(0, 1 - Math.floor(Math.log10(error))), 12);
  return `${value.toFixed(digits)} ± ${error.toFixed(digits)}`;
}

// ---------------------------------------------------------------------------------------------- what is drawn

/** Whether the horizontal axis shows powers of ten. */
const logAcross = () => (isCurves() ? AXES[view.axis].log : view.logX);
const logUp = () => !isCurves() && view.logY;

/** The places of one line: finite, in the order of the axis.
 * @param {(number|null)[]} x @param {(number|null)[]} y @param {(number|null)[]} error @param {number} scale */
function places(x, y, error, scale) {
  return y.map((value, i) => ({ x: number(x[i]), y: number(value) * scale, error: number(error[i]) * scale }))
    .map((p) => ({ ...p, x: logAcross() ? Math.log10(p.x) : p.x }))
    .filter((p) => Number.isFinite(p.x) && Number.isFinite(p.y) && (!logUp() || p.y > 0))
    .sort((a, b) => a.x - b.x);
}

const scaleOf = (/** @type {SavedCurve} */ curve) =>
  ({ nats: 1, bits: 1 / Math.LN2, share: 1 / number(curve.prior) })[view.units] ?? 1;

/** @param {string} field @param {boolean} isInformation @returns {Drawn[]} */
function drawnField(field, isInformation, dashed = false) {
  return shownLines().filter((i) => DATA.curves[i][field].length).map((i) => {
    const curve = /** @type {SavedCurve} */ (DATA.curves[i]);
    const scale = isInformation ? scaleOf(curve) : 1;
    return { line: i, dashed, places: places(curve.axes[view.axis], curve[field], curve[`${field}Error`], scale) };
  });
}

/** The panels of the view, from top to bottom. @returns {Panel[]} */
function panels() {
  if (!isCurves()) {
    const drawn = shownLines().map((i) => {
      const { x, y, error } = series().lines[i];
      return { line: i, dashed: false, places: places(x, y, error, 1) };
    });
    return [{ title: series().name, drawn }];
  }
  const unit = view.units === "share" ? "share of H[Z]" : view.units;
  const cross = drawnField("cross", true, true);
  const agree = drawnField("agree", false);
  const rate = view.axis === "t" ? "timeRate" : "rate";
  return [
    { title: `${cross.length ? "H, dashed: surprise" : "H"} (${unit})`, drawn: [...drawnField("h", true), ...cross] },
    { title: view.axis === "t" ? "dH/dt" : "rate in log σ/α", drawn: drawnField(rate, true) },
    ...(agree.length ? [{ title: "clone agreement", drawn: agree }] : []),
  ];
}

const across = () => (isCurves() ? AXES[view.axis].label : series().along);

/** A place in words. */
function placeWord(/** @type {number} */ x) {
  const ticks = isCurves() ? [] : series().ticks;
  return ticks.length ? ticks[x] ?? "" : shown(logAcross() ? 10 ** x : x);
}

/** @param {Panel[]} all */
function draw(all) {
  const seen = all.flatMap((panel) => panel.drawn.flatMap((line) => line.places.map((p) => p.x)));
  const [low, high] = seen.length ? [least(seen), most(seen)] : [0, 1];
  const margin = 0.03 * (high - low) || 0.5;
  model("across").setv({ start: low - margin, end: high + margin });
  for (let i = 0; i < 3; i++) {
    const panel = model(`panel-${i}`);
    panel.visible = i < all.length;
    if (i >= all.length) continue;
    drawPanel(i, all[i]);
    panel.left[0].axis_label = labelOf(all[i].title);
    panel.below[0].axis_label = i === all.length - 1 ? across() : "";
    tickWords(panel.below[0], logAcross(), isCurves() ? [] : series().ticks);
    tickWords(panel.left[0], logUp());
  }
}

const least = (/** @type {number[]} */ values) => values.reduce((a, b) => Math.min(a, b), Infinity);
const most = (/** @type {number[]} */ values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
const up = (/** @type {number} */ y) => (logUp() ? Math.log10(y) : y);

/** @param {number} i @param {Panel} panel */
function drawPanel(i, { drawn }) {
  const colour = drawn.map((d) => colourOf(d.line));
  model(`lines-${i}`).data = { colour, xs: drawn.map((d) => d.places.map((p) => p.x)),
    ys: drawn.map((d) => d.places.map((p) => up(p.y))), dash: drawn.map((d) => DASHES[d.dashed ? 1 : dashOf(d.line)]) };
  const bands = drawn.map((d) => ({ ...d, places: d.places.filter((p) => p.error > 0 && (!logUp() || p.y > BAND * p.error)) }))
    .filter((d) => d.places.length > 1);
  const edge = (/** @type {Place} */ p, /** @type {number} */ sign) => up(p.y + sign * BAND * p.error);
  model(`bands-${i}`).data = { colour: bands.map((d) => colourOf(d.line)),
    xs: bands.map((d) => [...d.places.map((p) => p.x), ...d.places.map((p) => p.x).reverse()]),
    ys: bands.map((d) => [...d.places.map((p) => edge(p, 1)), ...d.places.map((p) => edge(p, -1)).reverse()]) };
  const points = drawn.flatMap((d) => d.places.map((p) => ({ ...p, line: d.line, alpha: d.places.length > MOST_MARKED ? 0 : 0.65 })));
  model(`points-${i}`).data = { x: points.map((p) => p.x), y: points.map((p) => up(p.y)),
    colour: points.map((p) => colourOf(p.line)), name: points.map((p) => nameOf(p.line)), alpha: points.map((p) => p.alpha),
    place: points.map((p) => `${across()} = ${placeWord(p.x)}`), value: points.map((p) => withError(p.y, p.error)) };
  const heights = points.flatMap((p) => (p.error > 0 ? [p.y, p.y + BAND * p.error, p.y - BAND * p.error] : [p.y]))
    .filter((y) => !logUp() || y > 0).map(up);
  const [low, high] = heights.length ? [Math.min(least(heights), isCurves() ? 0 : Infinity), most(heights)] : [0, 1];
  const margin = 0.05 * (high - low) || 0.5 * Math.abs(high) || 1;
  model(`panel-${i}`).y_range.setv({ start: low - (low === 0 && isCurves() ? 0 : margin), end: high + margin });
}

// ---------------------------------------------------------------------------------------------- the table

/** The nearest place of a line. @param {Drawn|undefined} drawn @param {number} x @returns {Place|undefined} */
function nearest(drawn, x) {
  if (!drawn) return undefined;
  return drawn.places.reduce((/** @type {Place|undefined} */ best, p) =>
    (best && Math.abs(best.x - x) <= Math.abs(p.x - x) ? best : p), undefined);
}

/** Every shown line's values at the place of the cursor. @param {Panel[]} all */
function tabulate(all) {
  const { start, end } = model("across");
  const x = start + view.cursor * (end - start);
  for (let i = 0; i < 3; i++) model(`cursor-${i}`).data = { x: [x] };
  const word = `${across()} = ${placeWord(isCurves() || !series().ticks.length ? x : Math.round(x))}`;
  $("place").textContent = word;
  $("cursor").setAttribute("aria-valuetext", word);
  const head = element("tr");
  head.append(...["Line", across(), ...all.map((panel) => panel.title)].map((text) => element("th", text, { scope: "col" })));
  $("values").tHead.replaceChildren(head);
  $("values").tBodies[0].replaceChildren(...shownLines().map((line) => {
    const cells = all.map((panel) => nearest(panel.drawn.find((d) => d.line === line && !d.dashed), x));
    const row = element("tr");
    const at = cells.find((cell) => cell);
    row.append(element("th", nameOf(line), { scope: "row" }), element("td", at ? placeWord(at.x) : "", { class: "n" }),
      ...cells.map((cell) => element("td", cell ? withError(cell.y, cell.error) : "", { class: "n" })));
    return row;
  }));
}

// ---------------------------------------------------------------------------------------------- inputs

/** One box for each line, with its colour and dashes; families in groups. */
function legend() {
  /** @type {Map<string, HTMLElement>} */ const groups = new Map();
  choices().forEach((choice, i) => {
    const family = choice.family ?? "";
    if (!groups.has(family)) groups.set(family, element("div", "", { role: "group", "aria-label": family || "lines" }));
    const group = /** @type {HTMLElement} */ (groups.get(family));
    if (family && !group.childElementCount) group.append(element("p", family, { class: "soft" }));
    const label = element("label");
    const box = /** @type {HTMLInputElement} */ (element("input", "", { type: "checkbox", value: String(i) }));
    box.checked = !hiddenNow().has(i);
    label.append(box, swatch(i), choice.name);
    group.append(label);
  });
  $("lines").replaceChildren(...groups.values());
}

/** A short piece of a line as it is drawn. @param {number} line */
function swatch(line) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  const stroke = document.createElementNS(space, "line");
  for (const [name, value] of Object.entries({ width: "34", height: "10", "aria-hidden": "true" })) picture.setAttribute(name, value);
  const look = { x1: "1", x2: "33", y1: "5", y2: "5", stroke: colourOf(line), "stroke-width": "2.5",
    "stroke-dasharray": SVG_DASHES[dashOf(line)] };
  for (const [name, value] of Object.entries(look)) stroke.setAttribute(name, value);
  picture.append(stroke);
  return picture;
}

/** Show the inputs that the quantity has. */
function inputs() {
  for (const part of document.querySelectorAll("[data-for]")) {
    const box = /** @type {HTMLElement} */ (part);
    box.hidden = (box.dataset.for === "curves") !== isCurves();
  }
  if (!isCurves()) {
    const values = series().lines.flatMap((line) => line.x);
    view.logX = !series().ticks.length && least(values) > 0 && most(values) > 30 * least(values);
    view.logY = false;
    $("log-x").disabled = series().ticks.length > 0 || !(least(values) > 0);
    $("log-y").disabled = !series().lines.some((line) => line.y.some((y) => y > 0));
    [$("log-x").checked, $("log-y").checked] = [view.logX, view.logY];
  }
  legend();
}

/** Draw and write everything that depends on the choices. */
function update() {
  const all = panels();
  draw(all);
  tabulate(all);
}

/** Numbers of the shown lines, one row each. */
function asCsv() {
  const quoted = (/** @type {string|number} */ value) => {
    // A text that a spreadsheet would take for a formula begins with an apostrophe.
    const text = typeof value === "string" ? value.replace(/^[=+@\-\t\r]/, "'$&") : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const rows = panels().flatMap((panel) => panel.drawn.flatMap((d) => d.places.map((p) => [nameOf(d.line),
    d.dashed ? "surprise" : panel.title, logAcross() ? 10 ** p.x : isCurves() || !series().ticks.length ? p.x : placeWord(p.x),
    p.y, Number.isFinite(p.error) ? p.error : ""])));
  return [["line", "quantity", across(), "value", "stderr"], ...rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
}

function build() {
  document.title = `${DATA.name}: speciation`;
  $("heading").textContent = DATA.name;
  $("about").textContent = "Point at a curve for its values. Bands are two standard errors to either side; after ± stands one.";
  if (DATA.curves.length) $("quantity").append(element("option", "entropy curves", { value: "curves" }));
  DATA.series.forEach((/** @type {SavedSeries} */ one, /** @type {number} */ i) =>
    $("quantity").append(element("option", `${one.name} by ${one.along}`, { value: String(i) })));
  view.quantity = $("quantity").value;
  if (!DATA.curves.some((/** @type {SavedCurve} */ c) => c.prior !== null && c.prior > 0)) $("units").options[2].disabled = true;
  for (const name of Object.keys(AXES))
    [...$("axis").options].find((o) => o.value === name).disabled =
      !DATA.curves.some((/** @type {SavedCurve} */ c) => c.axes[name].some((v) => v !== null));
  $("facts").tBodies[0].replaceChildren(...DATA.facts.map((/** @type {[string, string]} */ [name, value]) => {
    const row = element("tr");
    row.append(element("th", name, { scope: "row" }), element("td", value));
    return row;
  }));
  for (const part of [$("facts-title"), $("facts")]) part.hidden = !DATA.facts.length;
  $("accuracy").textContent = (DATA.leftOut ? `${DATA.leftOut} further curves of the file are not on this page. ` : "") +
    `Of a quantity at most ${DATA.mostLines} lines are shown, and of a line at most ${DATA.mostPoints} points, evenly chosen. speciation ${DATA.version}, ${DATA.format}.`;
}

function listen() {
  const change = (/** @type {string} */ id, /** @type {() => void} */ act) => $(id).addEventListener("change", () => {
    act();
    update();
  });
  change("quantity", () => {
    view.quantity = $("quantity").value;
    inputs();
  });
  change("axis", () => (view.axis = $("axis").value));
  change("units", () => (view.units = $("units").value));
  change("log-x", () => (view.logX = $("log-x").checked));
  change("log-y", () => (view.logY = $("log-y").checked));
  $("lines").addEventListener("change", (/** @type {any} */ event) => {
    const line = Number(event.target.value);
    if (event.target.checked) hiddenNow().delete(line);
    else hiddenNow().add(line);
    update();
  });
  const set = (/** @type {number[]} */ lines) => {
    hidden.set(view.quantity, new Set(lines));
    legend();
    update();
  };
  $("all").addEventListener("click", () => set([]));
  $("none").addEventListener("click", () => set(choices().map((_, i) => i)));
  $("cursor").addEventListener("input", () => {
    view.cursor = Number($("cursor").value) / 1000;
    tabulate(panels());
  });
  $("form").addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
  offerFiles(asCsv, () => panels().map((_, i) => model(`panel-${i}`)));
}

async function begin() {
  build();
  await Plots.embed.embed_item(DATA.plot);
  inputs();
  listen();
  const all = [0, 1, 2].map((i) => model(`panel-${i}`));
  fit(all);
  theme(() => paint(all));
  update();
  document.body.dataset.ready = "yes";
}

begin();
