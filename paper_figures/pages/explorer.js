// @ts-check
"use strict";
/** The explorer: reads the setting, computes its curve, shows it, and keeps it in the page's address. */

/** @typedef {Record<string, any>} State */

const BITS = Math.LN2;
/** @type {State} */
const DEFAULTS = {
  mode: "flat", classes: 10, dim: 1000, separation: 1, variance: 1, prior: 0.01, family: "simplex", process: "vp",
  coarse: 4, fine: 10, inner: 0.3, weight: 2, sampler: "sde", axis: "t", units: "nats", grid: "edm", steps: 32,
};
/** Sliders: label, smallest, largest, whether logarithmic, whether whole, the modes that have it.
 * @type {Record<string, [string, number, number, boolean, boolean, string]>} */
const SLIDERS = {
  classes: ["Number of classes K", 2, 1e12, true, true, "flat"],
  dim: ["Dimension d", 1, 1e9, true, true, "flat prior tree guided"],
  separation: ["Separation for each dimension", 1e-3, 1e3, true, false, "flat prior tree guided"],
  variance: ["Variance within a class", 0, 1e3, true, false, "flat prior tree guided"],
  prior: ["Probability of the class", 1e-6, 1 - 1e-6, true, false, "prior guided"],
  coarse: ["Coarse classes", 2, 1e4, true, true, "tree"],
  fine: ["Fine classes in each", 2, 1e4, true, true, "tree"],
  inner: ["Separation of the fine classes", 1e-3, 1e3, true, false, "tree"],
  weight: ["Guidance weight w", 1, 20, true, false, "guided"],
};
const LEAST_VARIANCE = 1e-4; // the slider's left end stands for none
const CLEAN = 1e-3;
/** @type {Record<string, string>} */
const MARKS = {
  "entropy-rate": "fastest", "half-entropy": "half known", cloning: "cloning", "free-entropy": "free entropy",
  curvature: "curvature", "sde-instability": "SDE unstable", "flow-instability": "flow unstable",
  covariance: "covariance",
};
const COLOURS = ["#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#0072b2"];

/** @type {State} */ const state = { ...DEFAULTS };
/** @type {Set<number>} */ const overlaid = new Set();
/** @type {FlatTable} */ const TABLE = (() => {
  const bytes = Uint8Array.from(atob(DATA.table.values), (c) => c.charCodeAt(0));
  return { ...DATA.table, values: new Float32Array(bytes.buffer) };
})();
/** @type {Record<string, {label: string, log: boolean, at: (level: number) => number}>} */
const SHARED_AXES = {
  "log-snr": { label: "log SNR, log(α²/σ²)", log: false, at: (v) => v },
  sigma: { label: "noise level σ/α", log: true, at: (v) => Math.exp(-0.5 * v) },
  timestep: { label: "timestep of Stable Diffusion 1.5", log: false, at: timestepAt },
};

const PANELS = ["h", "rate", "agree"];

// ---------------------------------------------------------------------------------------------- the curve of a state

const energyOf = () => state.dim * state.separation ** 2;
const innerEnergy = () => state.dim * state.inner ** 2;
const leavesOf = () => ({ flat: state.classes, tree: state.coarse * state.fine })[/** @type {string} */ (state.mode)] ?? 2;

/** Level at which ρ is reached, or at which classes that overlap are as good as clean. */
function endAt(/** @type {number} */ rho, /** @type {number} */ energy) {
  if (state.variance === 0) return Math.log(rho / energy);
  const level = levelAt(rho, energy, state.variance);
  const clean = Math.log((1 / CLEAN - 1) / state.variance);
  if (level < clean) return level;
  return rho > 1 ? clean : Math.log(CLEAN / state.variance);
}

/** Noise levels from nothing decided to everything decided. @returns {[number, number]} */
function rangeOf() {
  const energies = state.mode === "tree" ? [energyOf(), innerEnergy()] : [energyOf()];
  const size = Math.log(leavesOf());
  const ends = { guided: [2e-3, 40], prior: [2e-3, 60] }[/** @type {string} */ (state.mode)] ?? [2e-3 * size, 4 * size + 28];
  return [endAt(ends[0], Math.max(...energies)), endAt(ends[1], Math.min(...energies))];
}

const priorEntropy = () => {
  const p = state.prior;
  if (state.mode === "flat" || state.mode === "tree") return Math.log(leavesOf());
  return -p * Math.log(p) - (1 - p) * Math.log1p(-p);
};

/** @type {Map<string, any>} */ const kept = new Map();
/** What does not change with the view is computed once. @template T @param {string} key @param {() => T} make @returns {T} */
function remember(key, make) {
  if (!kept.has(key)) {
    if (kept.size > 40) kept.clear();
    kept.set(key, make());
  }
  return kept.get(key);
}

/** Values at a level, of the main curve and of the other one. @returns {(level: number) => Point[]} */
function pointsOf() {
  const [energy, variance] = [energyOf(), state.variance];
  /** @param {{h: number, agree: number}} value @param {number} rho @param {number} moved @param {number} pairs */
  const flat = (value, rho, moved, pairs) => ({ ...value, dh: -pairs * (1 - value.agree) * rho * moved });
  if (state.mode === "flat") {
    const family = remember(`flat ${state.classes}`, () => flatFamily(TABLE, state.classes));
    const scale = state.family === "simplex" ? state.classes / (state.classes - 1) : 1;
    return (level) => {
      const [signal, moved] = shares(level, variance);
      const rho = scale * energy * signal;
      return [flat(family(rho), rho, moved, 0.5)];
    };
  }
  if (state.mode === "tree")
    return (level) => {
      const [signal, moved] = shares(level, variance);
      const found = treePoint([state.coarse, state.fine], [energy * signal, innerEnergy() * signal]);
      return [1, 0].map((j) => ({ h: found.h[j], dh: found.moved[j] * moved, agree: found.agree[j] }));
    };
  return (level) => {
    const [signal, moved] = shares(level, variance);
    return [flat(pair(state.prior, energy * signal), energy * signal, moved, 1)];
  };
}

/** @param {number[]} level @param {Point[]} points @param {number} prior @param {number} chance @returns {Curve} */
function curveOf(level, points, prior, chance) {
  const [h, dh, agree] = [points.map((p) => p.h), points.map((p) => p.dh), points.map((p) => p.agree)];
  const last = level.length - 1;
  // What clean data leave undecided: the curve ends where no more is gained.
  return { level, h, dh, agree, prior, chance, floor: h[last], limit: agree[last] };
}

/** The curves of the state: the main one, and one to compare it with. @returns {Curve[]} */
function curves() {
  const key = [state.mode, leavesOf(), energyOf(), innerEnergy(), state.variance, state.prior, state.coarse, state.family,
    state.mode === "guided" ? [state.weight, state.sampler] : ""].join(" ");
  return remember(key, () => {
    const [low, high] = rangeOf();
    const count = { flat: 241, prior: 161, tree: 37, guided: 161 }[/** @type {string} */ (state.mode)] ?? 161;
    const level = linspace(low, high, count);
    const at = pointsOf();
    const points = level.map(at);
    const chances = { flat: [1 / state.classes], tree: [1 / leavesOf(), 1 / state.coarse] }[/** @type {string} */ (state.mode)] ??
      [state.prior ** 2 + (1 - state.prior) ** 2];
    const priors = state.mode === "tree" ? [priorEntropy(), Math.log(state.coarse)] : [priorEntropy()];
    const found = priors.map((prior, i) => curveOf(level, points.map((p) => p[i]), prior, chances[i]));
    const [clean] = [state.variance > 0 ? at(Math.log(1e9 / state.variance)) : []];
    found.forEach((curve, i) => {
      [curve.floor, curve.limit] = clean.length ? [Math.max(clean[i].h, 0), clean[i].agree] : [0, 1];
    });
    if (state.mode === "tree") return found.map(denser);
    return state.mode === "guided" ? [guidedCurve(found[0]), found[0]] : found;
  });
}

/** The curve at four times as many levels, interpolated. @param {Curve} curve @returns {Curve} */
function denser(curve) {
  const last = curve.level.length - 1;
  const level = linspace(curve.level[0], curve.level[last], 4 * last + 1);
  const points = level.map((v) => valueAt(curve, v));
  return { ...curve, level, h: points.map((p) => p.h), dh: points.map((p) => p.dh), agree: points.map((p) => p.agree) };
}

/** Entropy along guided paths at the levels of the unguided curve; `agree` holds the surprise of the target.
 * @param {Curve} plain @returns {Curve} */
function guidedCurve(plain) {
  const [energy, variance] = [energyOf(), state.variance];
  const rhoAt = (/** @type {number} */ level) => energy * shares(level, variance)[0];
  const first = Math.log(FIRST_RHO);
  const last = Math.log(rhoAt(plain.level[plain.level.length - 1]));
  const nodes = linspace(first, last, 129);
  const solved = guidedPair(state.sampler, state.weight, state.prior, nodes);
  const at = (/** @type {number[]} */ y, /** @type {number} */ x) => local(nodes, y, Math.min(Math.max(x, first), last));
  const e = 0.01;
  /** @type {(level: number) => Point} */
  const exact = (level) => {
    const x = Math.log(rhoAt(level));
    // dH/dlevel = dH/dlog ρ · dlog ρ/dlevel, by a centred difference.
    const middle = Math.min(Math.max(x, first + e), last - e);
    const slope = (at(solved.h, middle + e) - at(solved.h, middle - e)) / (2 * e);
    return { h: at(solved.h, x), dh: slope * shares(level, variance)[1], agree: at(solved.surprise, x) };
  };
  const points = plain.level.map(exact);
  const [h, dh, agree] = [points.map((p) => p.h), points.map((p) => p.dh), points.map((p) => p.agree)];
  return { ...plain, h, dh, agree, exact, floor: h[h.length - 1], limit: agree[agree.length - 1] };
}

// ---------------------------------------------------------------------------------------------- places

/** One step of Newton's method with a value that is not interpolated. @param {number} level @param {number} target
 * @param {number} which */
function refined(level, target, which) {
  if (state.mode !== "tree" || !Number.isFinite(level)) return level;
  const point = pointsOf()(level)[which];
  return level - (point.h - target) / point.dh;
}

/** Levels of the window's ends and middle: 90%, 50% and 10% of the information. @param {Curve} curve */
function windowOf(curve, which = 0) {
  return [0.9, 0.5, 0.1].map((share) => {
    const value = curve.floor + share * (curve.prior - curve.floor);
    return refined(crossing(curve, "h", value), value, which);
  });
}

/** Levels of all criteria of the main curve; NaN where there is none. @returns {Record<string, number>} */
function places(/** @type {Curve} */ curve) {
  const clock = CLOCKS[state.process];
  const half = 0.5 * curve.prior;
  /** @type {Record<string, number>} */
  const found = {
    "entropy-rate": fastest(curve, clock),
    "half-entropy": refined(crossing(curve, "h", half), half, 0),
  };
  if (state.mode === "guided") return visited(found, clock);
  // Where clean data hardly decide anything, agreement is chance to the precision of the page.
  const decides = curve.limit - curve.chance > 1e-4;
  found.cloning = !decides ? NaN : crossing(curve, "agree", 0.5 * (curve.chance + curve.limit), -1);
  if (state.mode !== "flat") return visited(found, clock);
  const [energy, variance, classes] = [energyOf(), state.variance, state.classes];
  const between = energy / (state.family === "orthogonal" ? classes : classes - 1);
  const squared = state.family === "orthogonal" ? 2 : (2 * classes) / (classes - 1);
  const excess = between + variance - 1;
  const high = curve.level[curve.level.length - 1];
  Object.assign(found, {
    "free-entropy": levelAt(4 / squared, energy, variance),
    curvature: levelAt(1, between, variance),
    "sde-instability": instability(clock, between, variance, 1, high),
    "flow-instability": instability(clock, between, variance, 0.5, high),
    covariance: excess > 0 ? -Math.log(excess) : NaN,
  });
  return visited(found, clock);
}

/** @param {Record<string, number>} found @param {Clock} clock */
function visited(found, clock) {
  for (const name of Object.keys(found))
    if (!(found[name] >= clock.last && found[name] <= clock.first)) found[name] = NaN;
  return found;
}

// ---------------------------------------------------------------------------------------------- samplers

/** Noise levels σ/α of a sampler's steps, from noise to data. @returns {number[]} */
function samplerLevels() {
  const n = state.steps;
  if (state.grid === "edm")
    return linspace(0, 1, n).map((s) => (80 ** (1 / 7) + s * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7);
  if (state.grid === "ddim") return linspace(999, 0, n).map((t) => Math.exp(-0.5 * CHAIN[Math.round(t)]));
  return linspace(1, n, n).map((i) => (1 - (i - 1) / n)).map((t) => (t < 1 ? t / (1 - t) : Infinity));
}

/** The steps within an interval of σ/α, in words. */
function stepsWithin(/** @type {number} */ low, /** @type {number} */ high) {
  const inside = samplerLevels().map((v, i) => (v >= low && v <= high ? i + 1 : 0)).filter(Boolean);
  const name = $("grid").selectedOptions[0].textContent;
  if (!inside.length) return `no step of ${state.steps} of ${name}`;
  return `steps ${inside[0]} to ${inside[inside.length - 1]} of ${state.steps} of ${name}`;
}

// ---------------------------------------------------------------------------------------------- what is shown

const unitScale = (/** @type {number} */ prior) => ({ nats: 1, bits: 1 / BITS, share: 1 / prior })[/** @type {string} */ (state.units)] ?? 1;
const unitName = () => (state.units === "share" ? "share of H[Z]" : state.units);

/** Position on the chosen axis, in powers of ten where it is logarithmic. */
function axisOf() {
  const clock = CLOCKS[state.process];
  if (state.axis !== "t") return SHARED_AXES[state.axis];
  const inside = (/** @type {number} */ v) => v >= clock.last && v <= clock.first;
  return { label: `time t of ${state.process}`, log: state.process === "ve" || state.process === "edm",
    at: (/** @type {number} */ v) => (inside(v) ? clock.time(v) : NaN) };
}

/** What a rate is multiplied with: from dH/dlevel to dH/dt, or to the rate for a unit of log σ/α. */
const rateScale = (/** @type {number} */ level) => (state.axis === "t" ? CLOCKS[state.process].slope(level) : -2);

/** Draw everything. @param {Curve[]} all @param {Record<string, number>} marks @param {number[]} ends */
function draw(all, marks, ends) {
  const axis = axisOf();
  const position = (/** @type {number} */ v) => (axis.log ? Math.log10(axis.at(v)) : axis.at(v));
  const [main, other] = all;
  const x = main.level.map(position);
  const keep = x.map((_, i) => i).filter((i) => Number.isFinite(x[i]));
  const scale = unitScale(main.prior);
  const columns = (/** @type {Curve|undefined} */ curve) => ({
    h: keep.map((i) => (curve ? curve.h[i] * scale : NaN)),
    rate: keep.map((i) => (curve ? curve.dh[i] * rateScale(curve.level[i]) * scale : NaN)),
    agree: keep.map((i) => (curve ? curve.agree[i] * (state.mode === "guided" ? scale : 1) : NaN)),
  });
  const [first, second] = [columns(main), columns(other)];
  if (state.mode === "guided") second.agree = keep.map(() => NaN);
  model("curve").data = { x: keep.map((i) => x[i]), ...first, other_h: second.h, other_rate: second.rate,
    other_agree: second.agree };
  const near = keep.map((i) => x[i]);
  const [low, high] = [Math.min(...near), Math.max(...near)];
  const margin = 0.02 * (high - low) || 1;
  model("across").setv({ start: low - margin, end: high + margin });
  const places = Object.entries(marks).map(([name, v]) => ({ name, x: position(v) }))
    .filter((m) => m.x >= low && m.x <= high).sort((a, b) => a.x - b.x);
  const top = Math.max(...first.h, ...second.h.filter(Number.isFinite)) * 1.06 || 1;
  model("marks").data = { x: places.map((m) => m.x) };
  labels(places, low, high, top);
  const band = ends.map(position);
  model("band").data = Number.isFinite(band[0]) && Number.isFinite(band[2]) ? { x0: [band[0]], x1: [band[2]] } : { x0: [], x1: [] };
  drawMeasured(position, main.prior);
  const peak = (/** @type {number[]} */ a, /** @type {number[]} */ b) => 1.08 * Math.max(...a, ...b.filter(Number.isFinite)) || 1;
  const tops = [top, peak(first.rate, second.rate), state.mode === "guided" ? peak(first.agree, []) : 1.04];
  const titles = [`H (${unitName()})`, state.axis === "t" ? "dH/dt" : "rate in log σ/α",
    state.mode === "guided" ? "surprise of target" : "clone agreement"];
  PANELS.forEach((name, i) => {
    const panel = model(`panel-${name}`);
    panel.y_range.setv({ start: 0, end: tops[i] });
    panel.left[0].axis_label = labelOf(titles[i]);
    panel.below[0].axis_label = i === 2 ? axis.label : "";
    if (panel.below[0].log_shown !== axis.log) tickWords(panel.below[0], axis.log);
    panel.below[0].log_shown = axis.log;
  });
}

/** Names along their lines, pushed apart where lines are close. @param {{name: string, x: number}[]} places */
function labels(places, /** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ top) {
  const width = Math.max(model("panel-h").inner_width || 600, 100);
  const gap = (14 / width) * (high - low);
  const x = [];
  let before = -Infinity;
  for (const place of places) {
    before = Math.max(place.x + gap * 0.55, before + gap);
    x.push(before);
  }
  model("labels").data = { x, y: places.map(() => top * 0.985),
    name: places.map((m) => MARKS[m.name]) };
}

/** @param {(level: number) => number} position @param {number} prior */
function drawMeasured(position, prior) {
  /** @type {any} */ const lines = { xs: [], h: [], rate: [], agree: [], colour: [], dash: [] };
  for (const index of overlaid) {
    const curve = DATA.measured[index];
    const own = state.units === "share" ? 1 / curve.prior : unitScale(prior);
    const inside = (/** @type {number} */ v) => Number.isFinite(position(v));
    const keep = curve.level.map((/** @type {number} */ _, /** @type {number} */ i) => i).filter((/** @type {number} */ i) => inside(curve.level[i]));
    const pick = (/** @type {(i: number) => number} */ f) => keep.map(f);
    lines.xs.push(pick((i) => position(curve.level[i])));
    lines.h.push(pick((i) => curve.h[i] * own));
    lines.rate.push(pick((i) => curve.dh[i] * rateScale(curve.level[i]) * own));
    lines.agree.push(pick((i) => curve.agree[i] ?? NaN));
    lines.colour.push(COLOURS[index % COLOURS.length]);
    lines.dash.push("dashed");
  }
  model("measured").data = lines;
}

/** @param {Curve[]} all @param {Record<string, number>} marks @param {number[]} ends */
function write(all, marks, ends) {
  const main = all[0];
  const sigma = (/** @type {number} */ v) => Math.exp(-0.5 * v);
  const scale = unitScale(main.prior);
  const half = marks["half-entropy"];
  const what = { flat: `one of ${shown(state.classes)} classes`, prior: `a class of probability ${shown(state.prior)}`,
    tree: `one of ${shown(leavesOf())} leaves`, guided: `a pair guided with w = ${shown(state.weight)}` }[/** @type {string} */ (state.mode)];
  $("summary").textContent = `To decide ${what}, ${shown(main.prior * scale)} ${unitName()} must be learned. ` +
    (Number.isFinite(half) ? `Half of it is known at σ/α = ${shown(sigma(half))}.` : "Half of it is never known.") +
    (main.floor > 1e-3 * main.prior ? ` Clean data leave ${shown(main.floor * scale)} ${unitName()} undecided.` : "");
  const [a, , b] = ends;
  $("window").textContent = Number.isFinite(a) && Number.isFinite(b)
    ? `80% of the information comes between σ/α = ${shown(sigma(b))} and ${shown(sigma(a))} ` +
      `(log SNR ${shown(a)} to ${shown(b)}): ${stepsWithin(sigma(b), sigma(a))}.`
    : "The window of 80% of the information is not within these noise levels.";
  const rows = Object.entries(marks).map(([name, level]) => {
    const row = document.createElement("tr");
    row.dataset.criterion = name;
    row.dataset.level = String(level);
    const inside = Number.isFinite(level);
    const time = inside ? CLOCKS[state.process].time(level) : NaN;
    row.append(element("th", MARKS[name], { scope: "row" }), element("td", shown(time), { class: "n" }),
      element("td", shown(inside ? sigma(level) : NaN), { class: "n" }), element("td", shown(level), { class: "n" }),
      element("td", `${DATA.criteria[name][0]} (${DATA.criteria[name][1]})`));
    return row;
  });
  $("criteria").tBodies[0].replaceChildren(...rows);
  writeKey();
}

function writeKey() {
  const line = (/** @type {string} */ colour, dashed = false) =>
    `<svg width="34" height="10" aria-hidden="true"><line x1="1" x2="33" y1="5" y2="5" stroke="${colour}" stroke-width="2.5"${dashed ? ' stroke-dasharray="6 4"' : ""}/></svg>`;
  const names = { flat: ["exact"], prior: ["exact"], tree: ["coarse and fine class together", "coarse class"],
    guided: ["guided", "not guided"] }[/** @type {string} */ (state.mode)] ?? [];
  /** @type {[string, string, boolean][]} */
  const entries = names.map((name, i) => [name, i ? "#d55e00" : "#0072b2", i > 0]);
  for (const index of overlaid) entries.push([DATA.measured[index].name, COLOURS[index % COLOURS.length], true]);
  $("key").replaceChildren(...entries.map(([name, colour, dashed]) => {
    const item = element("li");
    item.innerHTML = line(colour, dashed);
    item.append(name);
    return item;
  }));
}

// ---------------------------------------------------------------------------------------------- one noise level

/** log σ/α at which the readout stands; null before a person moves it. @type {number|null} */
let cursor = null;

/** The values at the cursor, computed there and not read off the picture. @param {Curve[]} all */
function readout(all) {
  const [low, high] = [-0.5 * all[0].level[all[0].level.length - 1], -0.5 * all[0].level[0]];
  if (cursor === null || cursor < low || cursor > high) cursor = Number((0.5 * (low + high)).toFixed(4));
  const level = -2 * cursor;
  const exact = state.mode === "guided" ? [valueAt(all[0], level), ...pointsOf()(level)] : pointsOf()(level);
  const names = { tree: ["", "of the coarse class, "], guided: ["", "not guided, "] }[/** @type {string} */ (state.mode)] ?? [""];
  const items = [["σ/α", shown(Math.exp(cursor)), Math.exp(cursor)], ["log SNR", shown(level), level],
    ["time t", shown(CLOCKS[state.process].time(level)), CLOCKS[state.process].time(level)]];
  const scale = unitScale(all[0].prior);
  exact.forEach((point, i) => {
    const rate = point.dh * rateScale(level) * scale;
    items.push([`${names[i]}H (${unitName()})`, shown(point.h * scale), point.h * scale],
      [`${names[i]}${state.axis === "t" ? "dH/dt" : "rate in log σ/α"}`, shown(rate), rate]);
    const surprise = state.mode === "guided" && i === 0;
    const value = point.agree * (surprise ? scale : 1);
    items.push([`${names[i]}${surprise ? "surprise of target" : "clone agreement"}`, shown(value), value]);
  });
  $("readout").replaceChildren(...items.map(([name, text, value]) => {
    const box = element("div", "", { "data-name": String(name), "data-value": String(value) });
    box.append(element("dt", String(name)), element("dd", String(text)));
    return box;
  }));
  $("cursor").value = String(Math.round((1000 * (cursor - low)) / (high - low)));
  $("cursor").setAttribute("aria-valuetext", `log σ/α ${shown(cursor)}, H ${items[3][1]}`);
  if (document.activeElement !== $("cursor-number")) $("cursor-number").value = String(cursor);
  const axis = axisOf();
  const x = axis.log ? Math.log10(axis.at(level)) : axis.at(level);
  model("cursor").data = { x: Number.isFinite(x) ? [x] : [] };
}

// ---------------------------------------------------------------------------------------------- one update

/** @type {number[]} */ const durations = [];
/** @type {Curve[]} */ let current = [];

function update() {
  const start = performance.now();
  current = curves();
  const ends = windowOf(current[0]);
  const marks = places(current[0]);
  draw(current, marks, ends);
  write(current, marks, ends);
  readout(current);
  document.body.dataset.window = ends.join(" ");
  durations.push(performance.now() - start);
  if (durations.length > 500) durations.shift();
}

let waiting = 0;
/** Update once before the next picture, however many inputs have changed. */
function soon() {
  if (waiting) return;
  waiting = requestAnimationFrame(() => {
    waiting = 0;
    update();
    remembered();
  });
}

let writing = 0;
/** Keep the setting in the address, a moment after the last change. */
function remembered() {
  clearTimeout(writing);
  writing = window.setTimeout(() => history.replaceState(null, "", `#${fragment()}`), 150);
}

/** The setting as the address holds it: what differs from the default. */
function fragment() {
  const pairs = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name] || name === "mode");
  const extra = overlaid.size ? [["over", [...overlaid].join(".")]] : [];
  return new URLSearchParams([...pairs.map(([name, value]) => [name, String(value)]), ...extra]).toString();
}

/** Take the setting of the address; values outside their range are left out. */
function restore() {
  Object.assign(state, DEFAULTS);
  overlaid.clear();
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    if (name === "over") for (const i of text.split(".").map(Number)) if (DATA.measured[i]) overlaid.add(i);
    if (!(name in DEFAULTS)) continue;
    if (name in SLIDERS) {
      const [, low, high] = SLIDERS[name];
      if (Number(text) >= low && Number(text) <= high && text.trim()) state[name] = Number(text);
    } else if (name === "steps") {
      if (Number.isInteger(Number(text)) && Number(text) >= 2 && Number(text) <= 1000) state.steps = Number(text);
    } else if (name === "mode" ? document.querySelector(`input[name=mode][value="${CSS.escape(text)}"]`)
      : [...$(name).options].some((/** @type {any} */ o) => o.value === text)) state[name] = text;
  }
  show();
}

// ---------------------------------------------------------------------------------------------- inputs

/** Place of a value on its slider, 0..1000, and back. @param {string} name @param {number} value */
function placeOf(name, value) {
  const [, low, high, log] = SLIDERS[name];
  const least = low || LEAST_VARIANCE;
  return Math.round(1000 * (log ? Math.log(Math.max(value, least) / least) / Math.log(high / least) : (value - low) / (high - low)));
}

/** @param {string} name @param {number} place */
function valueOf(name, place) {
  const [, low, high, log, whole] = SLIDERS[name];
  if (place <= 0) return low;
  if (place >= 1000) return high;
  const least = low || LEAST_VARIANCE;
  const value = log ? least * (high / least) ** (place / 1000) : low + ((high - low) * place) / 1000;
  const rounded = Number(value.toPrecision(3));
  return Math.min(Math.max(whole ? Math.round(rounded) : rounded, low), high);
}

/** Show the state in all inputs. */
function show() {
  for (const input of document.querySelectorAll("input[name=mode]")) {
    const radio = /** @type {HTMLInputElement} */ (input);
    radio.checked = radio.value === state.mode;
  }
  for (const name of Object.keys(SLIDERS)) {
    $(`${name}-slider`).value = String(placeOf(name, state[name]));
    $(`${name}-slider`).setAttribute("aria-valuetext", shown(state[name]));
    if (document.activeElement !== $(name)) $(name).value = String(state[name]);
  }
  for (const name of ["family", "sampler", "process", "axis", "units", "grid", "steps"]) $(name).value = String(state[name]);
  for (const box of document.querySelectorAll("#measured input")) {
    const tick = /** @type {HTMLInputElement} */ (box);
    tick.checked = overlaid.has(Number(tick.value));
  }
  for (const part of document.querySelectorAll("[data-modes]")) {
    const box = /** @type {HTMLElement} */ (part);
    box.hidden = !(box.dataset.modes ?? "").split(" ").includes(state.mode);
  }
}

function build() {
  for (const [name, [label, low, high, , whole, modes]] of Object.entries(SLIDERS)) {
    const box = element("div", "", { class: "field", "data-modes": modes });
    box.append(element("label", label, { for: name }),
      element("input", "", { type: "number", id: name, min: String(low), max: String(high), step: whole ? "1" : "any" }),
      element("input", "", { type: "range", id: `${name}-slider`, min: "0", max: "1000", "aria-label": label }));
    $("sliders").append(box);
    $(`${name}-slider`).addEventListener("input", () => set(name, valueOf(name, Number($(`${name}-slider`).value))));
    $(name).addEventListener("input", () => {
      const value = Number($(name).value);
      const valid = $(name).value !== "" && value >= low && value <= high;
      $(name).setAttribute("aria-invalid", String(!valid));
      if (valid) set(name, value);
    });
    $(name).addEventListener("blur", show);
  }
  DATA.measured.forEach((/** @type {any} */ curve, /** @type {number} */ i) => {
    const label = element("label");
    label.append(element("input", "", { type: "checkbox", value: String(i) }), curve.name);
    $("measured").append(label);
  });
  $("measured").addEventListener("change", (/** @type {any} */ event) => {
    const index = Number(event.target.value);
    if (event.target.checked) overlaid.add(index);
    else overlaid.delete(index);
    soon();
  });
  $("mode").addEventListener("change", (/** @type {any} */ event) => set("mode", event.target.value));
  for (const name of ["family", "sampler", "process", "axis", "units", "grid"]) $(name).addEventListener("change", () => set(name, $(name).value));
  $("steps").addEventListener("input", () => {
    const steps = Number($("steps").value);
    if (Number.isInteger(steps) && steps >= 2 && steps <= 1000) set("steps", steps);
  });
  $("form").addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
  buildCursor();
  buildButtons();
}

/** @param {string} name @param {string|number} value */
function set(name, value) {
  state[name] = value;
  show();
  soon();
}

function buildCursor() {
  const ends = () => [-0.5 * current[0].level[current[0].level.length - 1], -0.5 * current[0].level[0]];
  $("cursor").addEventListener("input", () => {
    const [low, high] = ends();
    cursor = Number((low + ((high - low) * Number($("cursor").value)) / 1000).toFixed(6));
    readout(current);
  });
  $("cursor-number").addEventListener("input", () => {
    const value = Number($("cursor-number").value);
    const [low, high] = ends();
    if ($("cursor-number").value === "" || !(value >= low && value <= high)) return;
    cursor = value;
    readout(current);
  });
}

// ---------------------------------------------------------------------------------------------- what one takes along

const settingText = () => {
  const names = { flat: ["classes", "family"], prior: ["prior"], tree: ["coarse", "fine", "inner"],
    guided: ["prior", "weight", "sampler"] }[/** @type {string} */ (state.mode)] ?? [];
  const pairs = ["mode", "process", "dim", "separation", "variance", ...names].map((name) => [name, String(state[name])]);
  return new URLSearchParams(pairs).toString();
};

/** Python that computes this curve with the package. */
function asPython() {
  const clock = CLOCKS[state.process];
  const all = current[0].level.filter((v) => v >= clock.last && v <= clock.first);
  const make = state.process === "ddpm" ? "gmm.ddpm(gmm.scaled_linear_betas())" : `gmm.${clock.name}()`;
  const energy = `${state.dim} * ${state.separation} ** 2`;
  const call = {
    flat: `curve = theory.entropy_curve(\n    process, times, ${energy}, variance=${state.variance}, classes=${state.classes}, family="${state.family}"\n)`,
    prior: `# A pair ±m is two orthogonal means of twice the energy.\ncurve = theory.unequal_curve(\n    process, times, [${state.prior}, 1 - ${state.prior}], [2 * ${energy}] * 2, variance=${state.variance}\n)`,
    tree: `energies = [${energy}, ${state.dim} * ${state.inner} ** 2]\ncoarse, curve = theory.tree_curves(\n    process, times, (${state.coarse}, ${state.fine}), energies, variance=${state.variance}\n)`,
    guided: `guidance = gmm.guidance.Constant(${state.weight})\ncurve = theory.guided_curve(\n    process, times, ${energy}, guidance, variance=${state.variance}, prior=${state.prior}, sampler="${state.sampler}"\n)`,
  }[/** @type {string} */ (state.mode)];
  return `import numpy as np\n\nimport gmm\nimport gmm.guidance\nimport theory\nfrom gmm.clock import times_at\n\nprocess = ${make}\n` +
    `log_snr = np.linspace(${all[0]}, ${all[all.length - 1]}, 200)\ntimes = times_at(process, -0.5 * log_snr)\n${call}\n` +
    `print(curve.to_dataframe())\n`;
}

const asCommand = () => `speciation explore --setting "${settingText()}" --curve curve.nc`;

/** The numbers of the pictures as a table, in nats. */
function asCsv() {
  const clock = CLOCKS[state.process];
  const names = ["t", "log_snr", "sigma", "entropy", "rate", state.mode === "guided" ? "surprise" : "clone_agreement"];
  if (current[1]) names.push("other_entropy", "other_rate", "other_clone_agreement");
  const rows = current[0].level.map((level, i) => {
    const values = [clock.time(level), level, Math.exp(-0.5 * level)];
    for (const curve of current) values.push(curve.h[i], curve.dh[i] * clock.slope(level), curve.agree[i]);
    return values.join(",");
  });
  return [names.join(","), ...rows].join("\n") + "\n";
}

/** @param {string} text @param {string} what */
async function copy(text, what) {
  document.body.dataset.copied = text;
  try {
    await navigator.clipboard.writeText(text);
    $("copied").textContent = `${what} copied.`;
  } catch {
    // Without permission to the clipboard the text is shown, to be copied by hand.
    $("copied").replaceChildren(element("pre", text));
  }
}

function buildButtons() {
  $("link").addEventListener("click", () => copy(`${location.href.split("#")[0]}#${fragment()}`, "Link"));
  $("python").addEventListener("click", () => copy(asPython(), "Python"));
  $("command").addEventListener("click", () => copy(asCommand(), "Command"));
  offerFiles(asCsv, () => PANELS.map((name) => model(`panel-${name}`)));
}

// ---------------------------------------------------------------------------------------------- start

async function begin() {
  build();
  await Plots.embed.embed_item(DATA.plot);
  $("accuracy").textContent = `Accuracy: equal classes are interpolated in a table of the exact functions (format ` +
    `${DATA.table.version}), with an error below ${DATA.tableError.toExponential()} of H[Z]; priors and trees are quadratures with an error below ` +
    `1e-6 of H[Z], guided pairs are solved to 1e-4 nats. speciation ${DATA.version}, ${DATA.format}.`;
  restore();
  const all = PANELS.map((name) => model(`panel-${name}`));
  fit(all);
  theme(() => paint(all));
  update();
  addEventListener("hashchange", () => {
    restore();
    soon();
  });
  document.body.dataset.ready = "yes";
}

begin();
