// @ts-check
"use strict";
/** What the pages share: models of the plotting library by name, colours, axes, files to download. */

/** @type {any} */ const Plots = /** @type {any} */ (window).Bokeh;
const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const DATA = JSON.parse($("data").textContent);

/** A model of the plotting library by its name. @returns {any} */
const model = (/** @type {string} */ name) => Plots.documents[0].get_model_by_name(name);

/** An element with text, never with markup: names come from files. @param {string} tag @param {string} text
 * @param {Record<string, string>} attributes */
function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A number in as many digits as a person reads. */
function shown(/** @type {number} */ value, digits = 5) {
  if (!Number.isFinite(value)) return "none";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(digits - 1);
  return String(Number(value.toPrecision(digits)));
}

/** Words at the ticks of an axis, by what they stand for: numbers, powers of ten, or names of the places 0, 1, ...
 * @param {any} axis @param {boolean} log @param {string[]} names */
function tickWords(axis, log, names = []) {
  /** @type {(tick: number) => string} */
  const word = (tick) => (names.length ? names[tick] ?? "" : log ? shown(10 ** tick, 2) : shown(tick, 6));
  // The library's formatter of plain numbers, or ours: no code is made from text on this page.
  axis.formatter.doFormat = (/** @type {number[]} */ ticks) => ticks.map(word);
  axis.formatter.change.emit();
}

const themes = () => getComputedStyle(document.documentElement);

/** Give the pictures the colours of the page. @param {any[]} panels */
function paint(panels) {
  const style = themes();
  const [back, ink, soft, line] = ["--back", "--ink", "--soft", "--line"].map((n) => style.getPropertyValue(n).trim());
  for (const panel of panels) {
    panel.setv({ background_fill_color: back, border_fill_color: back, outline_line_color: line });
    for (const axis of [...panel.below, ...panel.left])
      axis.setv({ axis_label_text_color: ink, major_label_text_color: ink, axis_line_color: soft,
        major_tick_line_color: soft, minor_tick_line_color: null, axis_label_text_font_style: "normal" });
    for (const renderer of panel.renderers) {
      if (renderer.name === "names") renderer.glyph.text_color = ink;
      if (renderer.name === "lines") renderer.glyph.line_color = soft;
    }
    for (const grid of panel.center) if ("grid_line_color" in grid) grid.grid_line_color = line;
    for (const legend of panel.center)
      if ("label_text_color" in legend)
        legend.setv({ label_text_color: ink, background_fill_color: back, border_line_color: line });
  }
}

/** Follow the system's colours until a person chooses. @param {() => void} changed */
function theme(changed) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  /** @type {boolean|null} */ let chosen = null;
  const set = () => {
    const dark = chosen === null ? system.matches : chosen;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    $("theme").setAttribute("aria-pressed", String(dark));
    changed();
  };
  $("theme").addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme !== "dark";
    set();
  });
  system.addEventListener("change", set);
  set();
}

/** Whether the screen is narrow, as in the style sheet. */
const smallScreen = matchMedia("(max-width: 56rem)");
/** An axis' label, short where a picture is low. @param {string} text */
const labelOf = (text) => (smallScreen.matches ? text.replace("clone agreement", "agreement") : text);

/** Lower pictures where the screen is narrow, so that they leave room for what moves them. @param {any[]} panels */
function fit(panels) {
  const heights = panels.map((panel) => panel.height);
  const set = () => panels.forEach((panel, i) => {
    panel.height = smallScreen.matches ? Math.round(0.52 * heights[i]) : heights[i];
  });
  smallScreen.addEventListener("change", set);
  set();
}

/** Offer a file. @param {Blob} blob @param {string} name */
function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** The view of a model that is drawn on its own. @returns {any} */
function viewOf(/** @type {any} */ wanted) {
  const roots = Plots.index.roots ?? Object.values(Plots.index);
  /** @type {(view: any) => any} */
  const search = (view) => {
    if (view.model === wanted) return view;
    for (const child of view.child_views ?? []) {
      const found = search(child);
      if (found) return found;
    }
    return null;
  };
  for (const root of roots) {
    const found = search(root);
    if (found) return found;
  }
  return null;
}

/** All pictures below each other as one SVG. @param {any[]} panels @returns {Blob} */
function asSvg(panels) {
  const space = "http://www.w3.org/2000/svg";
  const whole = document.createElementNS(space, "svg");
  let [top, width] = [0, 0];
  for (const [i, panel] of panels.entries()) {
    const view = viewOf(panel);
    const layer = view.export("svg", false);
    const part = /** @type {SVGElement} */ (layer.get_svg ? layer.get_svg() : layer.ctx.get_svg());
    // Ids of clip paths are unique within a picture alone.
    part.innerHTML = part.innerHTML.replace(/(id="|url\(#)/g, `$1p${i}-`);
    part.setAttribute("y", String(top));
    whole.append(part);
    top += view.bbox.height;
    width = Math.max(width, view.bbox.width);
  }
  whole.setAttribute("viewBox", `0 0 ${width} ${top}`);
  whole.setAttribute("width", String(width));
  whole.setAttribute("height", String(top));
  return new Blob([new XMLSerializer().serializeToString(whole)], { type: "image/svg+xml" });
}

/** All pictures below each other as one PNG. @param {any[]} panels @returns {Promise<Blob>} */
function asPng(panels) {
  const layers = panels.map((panel) => viewOf(panel).export("png", true).canvas);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(...layers.map((layer) => layer.width));
  canvas.height = layers.reduce((sum, layer) => sum + layer.height, 0);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  let top = 0;
  for (const layer of layers) {
    context.drawImage(layer, 0, top);
    top += layer.height;
  }
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(/** @type {Blob} */ (blob)), "image/png"));
}

/**
 * Let the buttons for CSV, SVG and PNG offer what is shown when they are pressed.
 * @param {() => string} asCsv @param {() => any[]} panels models of the pictures, from above
 */
function offerFiles(asCsv, panels) {
  $("csv").addEventListener("click", () => download(new Blob([asCsv()], { type: "text/csv" }), "speciation.csv"));
  $("svg").addEventListener("click", () => download(asSvg(panels()), "speciation.svg"));
  $("png").addEventListener("click", async () => download(await asPng(panels()), "speciation.png"));
}
