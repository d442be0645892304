// @ts-check
"use strict";
/**
 * The exact theory on the page: the same quadratures as the Python package `theory`, short enough to follow a slider.
 * Notation: level = log(α²/σ²); ρ the signal-to-noise ratio of class means, α²E/(α²s²+σ²); entropies in nats.
 *
 * @typedef {{values: Float32Array, rows: number[], columns: number[], shape: number[], stencil: number}} FlatTable
 * @typedef {{h: number, dh: number, agree: number}} Point  entropy, dH/dlevel (negative), clone agreement
 * @typedef {{level: number[], h: number[], dh: number[], agree: number[], prior: number, floor: number,
 *   chance: number, limit: number, exact?: (level: number) => Point}} Curve
 * @typedef {{name: string, last: number, first: number, time: (level: number) => number,
 *   slope: (level: number) => number, growth: (level: number) => number}} Clock
 */

const sigmoid = (/** @type {number} */ x) => 1 / (1 + Math.exp(-x));
const softplus = (/** @type {number} */ x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
/** @param {number} low @param {number} high @param {number} count */
const linspace = (low, high, count) =>
  Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));

/** Root of a function that is positive at `left` and not at `right`. @param {(x: number) => number} f */
function bisect(f, /** @type {number} */ left, /** @type {number} */ right) {
  let [low, high] = [left, right];
  for (let i = 0; i < 60; i++) {
    const middle = 0.5 * (low + high);
    if (f(middle) > 0) low = middle;
    else high = middle;
  }
  return 0.5 * (low + high);
}

// ---------------------------------------------------------------------------------------------- processes

/** log-SNR of Stable Diffusion's chain, by its index. */
const CHAIN = (() => {
  const table = [];
  const [start, stop] = [Math.sqrt(0.00085), Math.sqrt(0.012)];
  let log = 0;
  for (let i = 0; i < 1000; i++) {
    log += Math.log1p(-((start + ((stop - start) * i) / 999) ** 2));
    table.push(log - Math.log(-Math.expm1(log)));
  }
  return table;
})();

/** Index of the chain's cell that holds a level, 0..998. */
function cellOf(/** @type {number} */ level) {
  let [low, high] = [0, CHAIN.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (CHAIN[middle] >= level) low = middle;
    else high = middle;
  }
  return low;
}

/** Timestep at a level; NaN outside the chain. */
function timestepAt(/** @type {number} */ level) {
  if (!(level <= CHAIN[0] && level >= CHAIN[999])) return NaN;
  const cell = cellOf(level);
  return cell + (CHAIN[cell] - level) / (CHAIN[cell] - CHAIN[cell + 1]);
}

const BETA = [0.1, 20];
const betaTime = (/** @type {number} */ level) => {
  const integral = softplus(-level);
  return (2 * integral) / (BETA[0] + Math.sqrt(BETA[0] ** 2 + 2 * (BETA[1] - BETA[0]) * integral));
};
const betaEnd = 0.5 * (BETA[0] + BETA[1]);
/** (log σ)'/(level') of every process that preserves variance. */
const preserving = (/** @type {number} */ level) => -0.5 * sigmoid(level);

/** Clocks by name: time and d level/dt at a level, and the growth of log σ over that of the level.
 * @type {Record<string, Clock>} */
const CLOCKS = {
  vp: {
    name: "vp", last: -Infinity, first: Infinity, growth: preserving,
    time: (v) => 0.5 * softplus(-v), slope: (v) => -2 * (1 + Math.exp(v)),
  },
  "vp-linear": {
    name: "vp_linear", last: -betaEnd - Math.log(-Math.expm1(-betaEnd)), first: Infinity, growth: preserving,
    time: betaTime, slope: (v) => -(BETA[0] + (BETA[1] - BETA[0]) * betaTime(v)) * (1 + Math.exp(v)),
  },
  ve: {
    name: "ve", last: -Infinity, first: Infinity, growth: () => -0.5,
    time: (v) => Math.exp(-v), slope: (v) => -Math.exp(v),
  },
  edm: {
    name: "edm", last: -Infinity, first: Infinity, growth: () => -0.5,
    time: (v) => Math.exp(-0.5 * v), slope: (v) => -2 * Math.exp(0.5 * v),
  },
  flow: {
    name: "flow", last: -Infinity, first: Infinity, growth: (v) => -0.5 * sigmoid(0.5 * v),
    time: (v) => sigmoid(-0.5 * v), slope: (v) => -2 / (sigmoid(0.5 * v) * sigmoid(-0.5 * v)),
  },
  ddpm: {
    name: "ddpm", last: CHAIN[999], first: CHAIN[0], growth: preserving,
    time: timestepAt, slope: (v) => CHAIN[cellOf(v) + 1] - CHAIN[cellOf(v)],
  },
};

/** α²/v and σ²/v, without overflow. @returns {[number, number]} */
function shares(/** @type {number} */ level, /** @type {number} */ variance) {
  const [signal, noise] = [Math.exp(Math.min(level, 0)), Math.exp(-Math.max(level, 0))];
  const total = signal * variance + noise;
  return [signal / total, noise / total];
}

/** Level at which ρ has a value; NaN where clean data do not reach it. */
function levelAt(/** @type {number} */ rho, /** @type {number} */ energy, /** @type {number} */ variance) {
  const left = energy / rho - variance;
  return left > 0 ? -Math.log(left) : NaN;
}

// ---------------------------------------------------------------------------------------------- flat families

/** First index and weights of the polynomial through the neighbours of a place. @returns {[number, number[]]} */
function stencil(/** @type {number} */ place, /** @type {number[]} */ ends, /** @type {number} */ count,
  /** @type {number} */ size) {
  const at = ((place - ends[0]) / (ends[1] - ends[0])) * (count - 1);
  const first = Math.min(Math.max(Math.floor(at) - size / 2 + 1, 0), count - size);
  const weights = [];
  for (let n = 0; n < size; n++) {
    let weight = 1;
    for (let m = 0; m < size; m++) if (m !== n) weight *= (at - first - m) / (n - m);
    weights.push(weight);
  }
  return [first, weights];
}

/** Entropy and agreement of K orthogonal classes as a function of ρ. @param {FlatTable} table
 * @returns {(rho: number) => {h: number, agree: number}} */
function flatFamily(table, /** @type {number} */ classes) {
  const size = table.stencil;
  const [, rows, columns] = table.shape;
  const logK = Math.log(classes);
  const [row, rowWeights] = stencil(Math.log(logK), table.rows, rows, size);
  // The rows are combined once for a K; what is left is interpolation along ρ.
  const lines = [0, 1].map((which) => {
    const line = new Float64Array(columns);
    for (let i = 0; i < size; i++) {
      const start = (which * rows + row + i) * columns;
      for (let j = 0; j < columns; j++) line[j] += rowWeights[i] * table.values[start + j];
    }
    return line;
  });
  return (rho) => {
    const place = Math.log(rho / logK);
    if (place < table.columns[0])
      return { h: logK - 0.5 * rho * (1 - 1 / classes), agree: 1 / classes };
    if (place > table.columns[1]) return { h: 0, agree: 1 };
    const [first, weights] = stencil(place, table.columns, columns, size);
    let [h, disagree] = [0, 0];
    for (let j = 0; j < size; j++) {
      h += weights[j] * lines[0][first + j];
      disagree += weights[j] * lines[1][first + j];
    }
    h = Math.min(Math.max(h, 0), 1);
    disagree = Math.min(Math.max(disagree, 0), 1);
    return { h: h * logK, agree: 1 - disagree * (1 - 1 / classes) };
  };
}

// ---------------------------------------------------------------------------------------------- two classes, a prior

/** Entropy and agreement of two classes ±m of ratio ρ, one of them with probability `prior`: `theory.binary_entropy`. */
function pair(/** @type {number} */ prior, /** @type {number} */ rho) {
  const bias = Math.log(prior) - Math.log1p(-prior);
  const r = Math.min(rho, 1e4);
  const step = 1 / (2.5 + 4 * Math.sqrt(r));
  // Beyond 9 standard deviations nothing is left, but the integrands' own tails are shifted by up to √ρ.
  const reach = Math.min(Math.ceil(2 * (40 + Math.abs(bias))), Math.ceil((9 + Math.sqrt(r)) / step));
  let [h, rate] = [0, 0];
  for (let k = -reach; k <= reach; k++) {
    const u = step * k;
    const a = Math.abs(bias + 2 * Math.sqrt(r) * u);
    const e = Math.exp(-a);
    const weight = Math.exp(-0.5 * (u * u + r) - 0.5 * a);
    h += weight * ((1 + e) * (e > 0 ? Math.log1p(e) / e : 1) + a);
    rate -= (2 * weight) / (1 + e);
  }
  const scale = step * Math.sqrt((prior * (1 - prior)) / (2 * Math.PI));
  return { h: h * scale, agree: 1 + rate * scale };
}

// ---------------------------------------------------------------------------------------------- trees of two levels

// Steps of x: the second where a Gaussian is too narrow for the first, which is enough for exp(-e^x) to 3e-9.
const TREE_STEPS = [0.5, 0.25];
const SPREAD = 5.7;
const REACH = 8;

/** Weights of N(shift, variance), both in steps, at nearest-REACH..nearest+REACH, exact for polynomials: a Gaussian
 * too narrow for the grid smooths the polynomial through the neighbours, by Gauss-Hermite nodes. */
function narrow(/** @type {number} */ shift, /** @type {number} */ variance) {
  const [nodes, nodeWeights] = HERMITE;
  const weights = new Float64Array(2 * REACH + 1);
  for (let n = 0; n < nodes.length; n++) {
    const point = shift + Math.sqrt(variance) * nodes[n];
    for (let i = -REACH; i <= REACH; i++) {
      let product = nodeWeights[n];
      for (let j = -REACH; j <= REACH; j++) if (j !== i) product *= (point - j) / (i - j);
      weights[i + REACH] += product;
    }
  }
  return weights;
}

/** Nodes and weights for E f(u), u ~ N(0, 1): 9 points, from the roots of He_9 by Newton's method. */
const HERMITE = (() => {
  const n = 9;
  const [nodes, weights] = [/** @type {number[]} */ ([]), /** @type {number[]} */ ([])];
  const value = (/** @type {number} */ x) => {
    let [before, here] = [0, 1];
    for (let k = 0; k < n; k++) [before, here] = [here, x * here - k * before];
    return [here, n * before];
  };
  let factorial = 1;
  for (let k = 2; k <= n; k++) factorial *= k;
  // Roots interlace: between signs on a fine grid there is one each.
  for (let x = -5; x < 5; x += 0.01)
    if (value(x)[0] * value(x + 0.01)[0] <= 0) {
      let root = x + 0.005;
      for (let i = 0; i < 20; i++) root -= value(root)[0] / value(root)[1];
      if (nodes.length && Math.abs(root - nodes[nodes.length - 1]) < 1e-6) continue;
      nodes.push(root);
      weights.push(factorial / value(root)[1] ** 2);
    }
  return [nodes, weights];
})();

/** Offsets and weights of a Gaussian on the grid. @returns {[number, Float64Array]} */
function kernel(/** @type {number} */ shift, /** @type {number} */ variance, /** @type {number} */ step) {
  const [at, spread] = [shift / step, Math.sqrt(variance) / step];
  const nearest = Math.round(at);
  if (spread < 1.4) return [nearest - REACH, narrow(at - nearest, spread * spread)];
  // Functions that grow like e^x are largest √variance deviations up.
  const [down, up] = [SPREAD, SPREAD + Math.sqrt(variance)].map((reach) => Math.ceil(reach * spread));
  const weights = new Float64Array(down + up + 1);
  for (let i = -down; i <= up; i++)
    weights[i + down] =
      Math.exp(-0.5 * ((i + nearest - at) / spread) ** 2) / (spread * Math.sqrt(2 * Math.PI));
  return [nearest - down, weights];
}

/** What a function may differ by from its value far away and count as that: an entropy changes by less than 1e-10. */
const NEGLIGIBLE = 1e-15;

/** E f(x + shift + √variance u) on the grid; f is `left` before it and `right` after it. Sums go over the part of the grid
 * where f is neither, which is short beside the Gaussian. @param {Float64Array} f @param {[number, Float64Array]} gaussian */
function smooth(f, gaussian, left = 0, right = 0) {
  const [offset, weights] = gaussian;
  const [size, width] = [f.length, weights.length];
  const [out, mass] = [new Float64Array(size), new Float64Array(width + 1)];
  for (let j = 0; j < width; j++) mass[j + 1] = mass[j] + weights[j];
  let [first, last] = [0, size];
  while (first < last && Math.abs(f[first] - left) <= NEGLIGIBLE) first++;
  while (last > first && Math.abs(f[last - 1] - right) <= NEGLIGIBLE) last--;
  for (let i = 0; i < size; i++) {
    const start = i + offset;
    const low = Math.min(Math.max(0, first - start), width);
    const high = Math.max(Math.min(width, last - start), low);
    let sum = left * mass[low] + right * (mass[width] - mass[high]);
    for (let j = low; j < high; j++) sum += weights[j] * f[start + j];
    out[i] = sum;
  }
  return out;
}

/** Leaf entropy of a tree and the probability that a draw leaves the true path at each level: `tree_sweep`.
 * @param {number[]} branching coarsest first @param {number[]} rhos
 * @returns {{h: number, leaves: number[], innerH: number, innerLeaves: number}} inner: of the finest level alone */
function tree(branching, rhos) {
  const levels = branching.length;
  const step = TREE_STEPS[Math.min(...rhos) >= 0.55 ? 0 : 1];
  const size = branching.reduce((sum, b) => sum + Math.log(b), 0);
  const [total, above] = [rhos.reduce((a, b) => a + b, 0), levels > 1 ? rhos[0] : 0];
  const spread = SPREAD * Math.sqrt(total);
  const low = -Math.max(size + 18, spread) - above / 2 - SPREAD * Math.sqrt(above);
  const count = Math.ceil(((total - rhos[0]) / 2 + spread + 5 - low) / step) + 1;
  // 1 - ψ^b, χ ψ^(b-1) and -(ψ^b)' of a node with all its children; what is undecided; what diverged below.
  const [off, on, slope] = [new Float64Array(count), new Float64Array(count), new Float64Array(count)];
  for (let i = 0; i < count; i++) {
    const lambda = Math.exp(Math.min(low + step * i, 600));
    [off[i], on[i]] = [-Math.expm1(-lambda), Math.exp(-lambda)];
    slope[i] = lambda * on[i];
  }
  let delta = new Float64Array(count);
  /** @type {Float64Array[]} */ let diverged = [];
  const integral = (/** @type {Float64Array} */ f) => f.reduce((a, b) => a + b, 0) * step;
  let [innerH, innerLeaves] = [0, 0];
  for (let l = levels - 1; l >= 0; l--) {
    const [b, rho] = [branching[l], rhos[l]];
    const [away, along] = [kernel(-rho / 2, rho, step), kernel(rho / 2, rho, step)];
    const [missing, eta, chi] = [smooth(off, away, 0, 1), smooth(slope, away), smooth(on, along, 1, 0)];
    // Nothing is undecided below the leaves, and smoothing does not change an integral, all that the top needs.
    if (l > 0 && l < levels - 1) delta = smooth(delta, along);
    diverged = diverged.map((weight) => smooth(weight, along));
    const here = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const logPsi = Math.log1p(-Math.min(missing[i], 1 - 1e-16));
      const others = Math.exp((b - 1) * logPsi);
      delta[i] -= chi[i] * Math.expm1((b - 1) * logPsi);
      for (const weight of diverged) weight[i] *= others;
      here[i] = (b - 1) * chi[i] * eta[i] * Math.exp((b - 2) * logPsi);
      [off[i], on[i], slope[i]] = [-Math.expm1(b * logPsi), chi[i] * others, b * others * eta[i]];
    }
    diverged.push(here);
    if (l === levels - 1) [innerH, innerLeaves] = [integral(delta), integral(here)];
  }
  return { h: integral(delta), leaves: diverged.reverse().map(integral), innerH, innerLeaves };
}

/** Entropies of the coarse class and of both, their derivatives along ρ → (1+ε)ρ, and the agreements.
 * @param {number[]} branching @param {number[]} rhos */
function treePoint(branching, rhos) {
  // Beyond, no draw leaves the true path any more: (N-1) e^{-ρ/4} < 1e-11, N the number of leaves.
  const most = 4 * (25.4 + Math.log(branching[0] * branching[1]));
  if (rhos[0] >= most) return fineAlone(branching[1], Math.min(rhos[1], most));
  const whole = tree(branching, rhos.map((rho) => Math.min(rho, most)));
  const first = -0.5 * whole.leaves[0];
  const second = -0.5 * (whole.leaves[0] + whole.leaves[1]);
  const within = -0.5 * whole.innerLeaves;
  const fine = first * rhos[0] + second * rhos[1];
  return {
    h: [whole.h - whole.innerH, whole.h],
    moved: [fine - within * rhos[1], fine],
    agree: [1 + 2 * first, 1 + 2 * second],
  };
}

/** `treePoint` where the coarse class is decided: a tree of one level. @param {number} branches @param {number} rho */
function fineAlone(branches, rho) {
  const { h, leaves } = tree([branches], [rho]);
  const within = -0.5 * leaves[0];
  return { h: [0, h], moved: [0, within * rho], agree: [1, 1 + 2 * within] };
}

// ---------------------------------------------------------------------------------------------- guided pairs

/** Averages along guided paths at the nodes of log ρ: entropy and surprise of the target, ρ rising.
 * @typedef {{rho: number[], h: number[], surprise: number[]}} Guided */

const FIRST_RHO = 1e-3;
const EARLIEST = 1e-8;

/** @param {number} q @param {number} rho @param {number} bias */
const otherClass = (q, rho, bias) => 1 / (1 + Math.exp(bias + 2 * rho + 2 * Math.sqrt(rho) * q));

/** @param {ArrayLike<number>} q @param {ArrayLike<number>} mass @param {number} rho @param {number} bias */
function averages(q, mass, rho, bias) {
  let [h, surprise, total] = [0, 0, 0];
  for (let i = 0; i < q.length; i++) {
    const logit = bias + 2 * rho + 2 * Math.sqrt(rho) * q[i];
    const [target, other] = [softplus(-logit), softplus(logit)];
    const p = sigmoid(-logit);
    total += mass[i];
    surprise += mass[i] * target;
    h += mass[i] * ((1 - p) * target + p * other);
  }
  return [h / total, surprise / total];
}

/** The reverse SDE: Fokker-Planck by Scharfetter-Gummel fluxes and Crank-Nicolson steps, `theory.guided_pair`.
 * @param {number} weight @param {number} prior @param {number[]} logRho @param {number} inside steps between nodes
 * @param {number} step of q @returns {Guided} */
function guidedSde(weight, prior, logRho, inside, step) {
  const bias = Math.log(prior) - Math.log1p(-prior);
  const lastRho = Math.exp(logRho[logRho.length - 1]);
  // Towards the target guidance reaches as far as it beats the pull back.
  let reach = 0;
  for (let q = 0; q <= 60; q += 0.1)
    for (let k = 0; k <= 40; k++) {
      const rho = FIRST_RHO * (lastRho / FIRST_RHO) ** (k / 40);
      if (4 * (weight - 1) * Math.sqrt(rho) * otherClass(q, rho, bias) >= q) reach = q;
    }
  const low = -7 - (weight < 1 ? 2 * Math.max(1 - weight, 1) * Math.sqrt(lastRho) : 0);
  const count = Math.ceil((7 + reach - low) / step) + 1;
  const q = Float64Array.from({ length: count }, (_, i) => low + step * i);
  const shift = 2 * (weight - 1) * (1 - prior) * Math.exp(0.5 * logRho[0]);
  const mass = q.map((v) => Math.exp(-0.5 * (v - shift) ** 2));
  const [right, left] = [new Float64Array(count), new Float64Array(count)];
  const [upper, rest] = [new Float64Array(count), new Float64Array(count)];
  const [rho, h, surprise] = [[FIRST_RHO], /** @type {number[]} */ ([]), /** @type {number[]} */ ([])];
  const note = (/** @type {number} */ at) => {
    const [a, b] = averages(q, mass, at, bias);
    h.push(a);
    surprise.push(b);
  };
  rho[0] = Math.exp(logRho[0]);
  note(rho[0]);
  for (let n = 1; n < logRho.length; n++) {
    const length = (logRho[n] - logRho[n - 1]) / inside;
    for (let s = 0; s < inside; s++) {
      const middle = Math.exp(logRho[n - 1] + (s + 0.5) * length);
      for (let i = 0; i < count - 1; i++) {
        const face = q[i] + 0.5 * step;
        const drift = 4 * (weight - 1) * Math.sqrt(middle) * otherClass(face, middle, bias) - face;
        const z = drift * step;
        const zz = z * z;
        const series = 1 - 0.5 * z + zz / 12 - (zz * zz) / 720 + (zz * zz * zz) / 30240;
        const bernoulli = zz > 0.25 ? z / (Math.exp(z) - 1) : series;
        left[i] = bernoulli / step ** 2;
        right[i] = (bernoulli + z) / step ** 2;
      }
      crankNicolson(mass, right, left, 0.25 * length, upper, rest);
    }
    rho.push(Math.exp(logRho[n]));
    note(rho[n]);
  }
  return { rho, h, surprise };
}

/** One implicit step in place. @param {Float64Array} mass @param {Float64Array} right @param {Float64Array} left
 * @param {number} half @param {Float64Array} upper @param {Float64Array} rest */
function crankNicolson(mass, right, left, half, upper, rest) {
  const last = mass.length - 1;
  for (let i = 0; i <= last; i++) {
    const [into, from] = [i > 0 ? right[i - 1] * mass[i - 1] - left[i - 1] * mass[i] : 0,
      i < last ? right[i] * mass[i] - left[i] * mass[i + 1] : 0];
    const out = (i < last ? right[i] : 0) + (i > 0 ? left[i - 1] : 0);
    const lower = i > 0 ? -half * right[i - 1] : 0;
    const diagonal = 1 + half * out - (i > 0 ? lower * upper[i - 1] : 0);
    upper[i] = i < last ? (-half * left[i]) / diagonal : 0;
    rest[i] = (mass[i] + half * (into - from) - (i > 0 ? lower * rest[i - 1] : 0)) / diagonal;
  }
  for (let i = last; i >= 0; i--) mass[i] = rest[i] - (i < last ? upper[i] * mass[i + 1] : 0);
}

/** One Runge-Kutta step of every quantile in log ρ, in place. @param {Float64Array} q
 * @param {(q: number, rho: number) => number} push @param {number} at @param {number} length */
function flowStep(q, push, at, length) {
  const [a, b, c] = [Math.exp(at), Math.exp(at + 0.5 * length), Math.exp(at + length)];
  for (let i = 0; i < q.length; i++) {
    const k1 = 0.5 * push(q[i], a);
    const k2 = 0.5 * push(q[i] + 0.5 * length * k1, b);
    const k3 = 0.5 * push(q[i] + 0.5 * length * k2, b);
    q[i] += (length / 6) * (k1 + 2 * k2 + 2 * k3 + 0.5 * push(q[i] + length * k3, c));
  }
}

/** The probability flow: each quantile's path by Runge-Kutta steps. @param {number} weight @param {number} prior
 * @param {number[]} logRho @param {number} inside @param {number} step @returns {Guided} */
function guidedFlow(weight, prior, logRho, inside, step) {
  const bias = Math.log(prior) - Math.log1p(-prior);
  const count = Math.ceil(14 / step) + 1;
  const start = Float64Array.from({ length: count }, (_, i) => -7 + step * i);
  const mass = start.map((v) => Math.exp(-0.5 * v * v));
  const push = (/** @type {number} */ q, /** @type {number} */ rho) =>
    2 * (weight - 1) * Math.sqrt(rho) * otherClass(q, rho, bias);
  const first = Math.exp(logRho[0]);
  const q = start.map((v) => v + push(v, EARLIEST));
  for (let at = Math.log(EARLIEST), n = 24, i = 0, length = (logRho[0] - at) / n; i < n; i++, at += length)
    flowStep(q, push, at, length);
  const [rho, h, surprise] = [[first], /** @type {number[]} */ ([]), /** @type {number[]} */ ([])];
  const note = (/** @type {number} */ at) => {
    const [a, b] = averages(q, mass, at, bias);
    h.push(a);
    surprise.push(b);
  };
  note(first);
  for (let n = 1; n < logRho.length; n++) {
    const length = (logRho[n] - logRho[n - 1]) / inside;
    for (let s = 0; s < inside; s++) flowStep(q, push, logRho[n - 1] + s * length, length);
    rho.push(Math.exp(logRho[n]));
    note(rho[n]);
  }
  return { rho, h, surprise };
}

/** The better of two resolutions: the SDE's scheme is of second order, so their errors cancel.
 * @param {"sde"|"flow"} sampler @param {number} weight @param {number} prior @param {number[]} logRho
 * @returns {Guided} */
function guidedPair(sampler, weight, prior, logRho) {
  if (sampler === "flow") return guidedFlow(weight, prior, logRho, 1, 0.1);
  const [coarse, fine] = [guidedSde(weight, prior, logRho, 1, 0.2), guidedSde(weight, prior, logRho, 2, 0.1)];
  const better = (/** @type {number[]} */ a, /** @type {number[]} */ b) => b.map((v, i) => (4 * v - a[i]) / 3);
  return { rho: fine.rho, h: better(coarse.h, fine.h), surprise: better(coarse.surprise, fine.surprise) };
}

// ---------------------------------------------------------------------------------------------- places on a curve

/** Values of a curve between its points, by the cubic through entropies and slopes.
 * @param {Curve} curve @returns {{h: number, dh: number, agree: number}} */
function valueAt(curve, /** @type {number} */ level) {
  if (curve.exact) return curve.exact(level);
  const n = curve.level.length;
  let i = 0;
  for (let [low, high] = [0, n - 1]; ; ) {
    if (high - low <= 1) {
      i = low;
      break;
    }
    const middle = (low + high) >> 1;
    if (curve.level[middle] <= level) low = middle;
    else high = middle;
  }
  const width = curve.level[i + 1] - curve.level[i];
  const s = (level - curve.level[i]) / width;
  const [h0, h1] = [curve.h[i], curve.h[i + 1]];
  const [d0, d1] = [curve.dh[i] * width, curve.dh[i + 1] * width];
  const h = h0 + s * d0 + s * s * (3 * (h1 - h0) - 2 * d0 - d1) + s ** 3 * (2 * (h0 - h1) + d0 + d1);
  return { h, dh: local(curve.level, curve.dh, level), agree: local(curve.level, curve.agree, level) };
}

/** Value of the polynomial through six neighbours of even points. @param {number[]} x @param {number[]} y */
function local(x, y, /** @type {number} */ at) {
  const [first, weights] = stencil(at, [x[0], x[x.length - 1]], x.length, 6);
  return weights.reduce((sum, w, i) => sum + w * y[first + i], 0);
}

/** Level at which a quantity of the curve falls through a value with rising level; NaN where it does not.
 * @param {Curve} curve @param {"h"|"agree"} field @param {number} value @param {number} sign */
function crossing(curve, field, value, sign = 1) {
  const y = curve[field];
  for (let i = 1; i < y.length; i++)
    if (sign * (y[i - 1] - value) > 0 && sign * (y[i] - value) <= 0)
      return bisect((v) => sign * (valueAt(curve, v)[field] - value), curve.level[i - 1], curve.level[i]);
  return NaN;
}

/** Level of the largest |dH/dt|; NaN where it lies at an end. @param {Curve} curve @param {Clock} clock */
function fastest(curve, clock) {
  const inside = curve.level.map((v) => v >= clock.last && v <= clock.first);
  const log = curve.level.map((_, i) => Math.log(Math.max(-curve.dh[i], 1e-300)));
  const chained = clock.name === "ddpm";
  const total = log.map((v, i) => (inside[i] ? v + (chained ? 0 : Math.log(-clock.slope(curve.level[i]))) : -Infinity));
  const best = total.indexOf(Math.max(...total));
  if (best < 1 || best > total.length - 2) return NaN;
  if (!chained && !(isFinite(total[best - 1]) && isFinite(total[best + 1]))) return NaN;
  const value = (/** @type {number} */ v) => local(curve.level, log, v) + (chained ? 0 : Math.log(-clock.slope(v)));
  const step = 0.02 * (curve.level[1] - curve.level[0]);
  const rising = (/** @type {number} */ v) =>
    8 * (value(v + step) - value(v - step)) - (value(v + 2 * step) - value(v - 2 * step));
  const top = bisect(rising, curve.level[best - 1], curve.level[best + 1]);
  return chained ? peakOfChain(curve, log, top) : top;
}

/** Within a cell of the chain dH/dt is the rate in the level times a constant: the best cell's nearest point.
 * @param {Curve} curve @param {number[]} log @param {number} top */
function peakOfChain(curve, log, top) {
  let [best, found] = [-Infinity, NaN];
  for (let i = 0; i < 999; i++) {
    const nearest = Math.min(Math.max(top, CHAIN[i + 1]), CHAIN[i]);
    if (nearest < curve.level[0] || nearest > curve.level[curve.level.length - 1]) continue;
    const value = local(curve.level, log, nearest) + Math.log(CHAIN[i] - CHAIN[i + 1]);
    if (value > best) [best, found] = [value, nearest];
  }
  return found === CHAIN[0] || found === CHAIN[999] ? NaN : found;
}

/** Level at which the reverse drift turns unstable at the centre: `theory.CRITERIA`.
 * @param {Clock} clock @param {number} between largest eigenvalue of the between-class covariance
 * @param {number} variance @param {number} share 1 for the SDE, ½ for the flow @param {number} high */
function instability(clock, between, variance, share, high) {
  const excess = (/** @type {number} */ level) => {
    const ratio = Math.exp(level) * variance;
    const terms = [between * shares(level, variance)[0], (ratio + 1 - 2 * share) / (2 * share),
      ((1 + ratio) / share) * clock.growth(level)];
    return terms.reduce((a, b) => a + b) - 1e-13 * terms.reduce((a, b) => a + Math.abs(b), 0);
  };
  const low = Math.max(-2 * Math.log1p(between + variance) - 10, clock.last);
  const grid = linspace(low, Math.min(Math.max(high, 30), clock.first), 1200);
  const above = grid.findIndex((v) => excess(v) > 0);
  return above < 1 ? NaN : bisect((v) => -excess(v), grid[above - 1], grid[above]);
}
