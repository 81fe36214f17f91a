// SVG chart of recall against a cost. Each measured choice is a mark, whose colour and shape show the kind of index. A
// line joins the Pareto front; a ring marks the choice in use. Tab and arrow keys reach the marks; screen readers too.
import { h } from "./dom.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const HEIGHT = 340;
const EDGE = { top: 14, right: 18, bottom: 44, left: 62 };
// The axis shows 1 - recall on a logarithmic scale; a recall of 1 is drawn here.
const PERFECT = 2e-4;
const RECALLS = [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1];
const NEXT = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };

const SHAPES = {
  exact: "M-5-5h10v10h-10z",
  hnsw: "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0z",
  ivfflat: "M0-6.2l6 10.8h-12z",
  pca: "M0-6.8l6.3 6.8l-6.3 6.8l-6.3-6.8z",
  bits: "M0 6.2l6-10.8h-12z",
};

export const KINDS = {
  exact: "exact, no index",
  hnsw: "HNSW on full vectors",
  ivfflat: "IVFFlat on full vectors",
  pca: "PCA, re-ranked",
  bits: "bits, re-ranked",
};

function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const mark = (kind) => s("svg", { viewBox: "-8 -8 16 16", class: `key kind-${kind}`, "aria-hidden": "true" }, s("path", { d: SHAPES[kind] ?? SHAPES.hnsw }));

const miss = (recall) => Math.max(1 - recall, PERFECT);

// Round numbers between two bounds: 1, 2, 5 times a power of ten on a logarithmic scale, else evenly spaced.
function ticks(least, most, logarithmic) {
  const found = [];
  if (logarithmic) {
    for (let power = Math.floor(Math.log10(least)); power <= Math.log10(most); power++) {
      for (const step of [1, 2, 5]) {
        const value = step * 10 ** power;
        if (value >= least && value <= most) found.push(value);
      }
    }
    return found.length > 7 ? found.filter((value) => Math.abs(Math.log10(value) % 1) < 1e-9) : found;
  }
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((one) => one * power >= rough) * power;
  for (let value = 0; value <= most * 1.0001; value += step) found.push(value);
  return found;
}

function scales(points, cost, width) {
  const costs = points.map(cost);
  const [least, most] = [Math.min(...costs), Math.max(...costs)];
  const logarithmic = least > 0 && most / least > 6;
  const bottom = logarithmic ? least / 1.35 : 0;
  const top = logarithmic ? most * 1.35 : most * 1.12 || 1;
  const height = HEIGHT - EDGE.top - EDGE.bottom;
  const share = logarithmic ? (value) => Math.log(value / bottom) / Math.log(top / bottom) : (value) => value / top;
  const worst = Math.max(0.004, ...points.map((one) => miss(one.recall))) * 1.5;
  const across = Math.log(worst / (PERFECT * 0.7));
  return {
    worst,
    x: (recall) => EDGE.left + (Math.log(worst / miss(recall)) / across) * (width - EDGE.left - EDGE.right),
    y: (value) => EDGE.top + (1 - share(value)) * height,
    ticks: ticks(bottom, top, logarithmic),
  };
}

function axes(scale, width, format) {
  const lines = scale.ticks.flatMap((value) => [
    s("line", { class: "gridline", x1: EDGE.left, x2: width - EDGE.right, y1: scale.y(value), y2: scale.y(value) }),
    text(format(value).replace(/\.0(?= )/, ""), EDGE.left - 9, scale.y(value) + 4, "end"),
  ]);
  let last = -Infinity;
  for (const recall of RECALLS) {
    const at = scale.x(recall);
    if (miss(recall) > scale.worst || at - last < 40) continue;
    last = at;
    lines.push(s("line", { class: "gridline", x1: at, x2: at, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }));
    lines.push(text(String(recall), at, HEIGHT - EDGE.bottom + 18, "middle"));
  }
  lines.push(text("recall", width - EDGE.right, HEIGHT - 6, "end"));
  return s("g", { "aria-hidden": "true" }, ...lines);
}

function text(content, x, y, anchor) {
  const element = s("text", { x, y, "text-anchor": anchor });
  element.textContent = content;
  return element;
}

// `cost` returns a cost, `format` its text on the axis, `front` whether the point is on the line. `describe` returns an
// element with all numbers of a point, `label` the same as text. `pick` is called with the point that the user chooses.
export function chart(place, { title, points, cost, format, front, describe, label, pick }) {
  const tip = h("div", { class: "tip", hidden: true });
  tip.setAttribute("aria-hidden", "true");
  const canvas = s("svg", { class: "chart", role: "listbox", "aria-label": title, height: HEIGHT });
  place.replaceChildren(canvas, tip);
  const ordered = [...points].sort((a, b) => a.recall - b.recall || cost(a) - cost(b));
  let state = { target: 0, chosen: null };
  let marks = [];
  let limit = null;
  let scale = null;
  let reached = null;

  function redraw() {
    const width = Math.max(280, place.clientWidth);
    const focused = marks.findIndex((one) => one === document.activeElement);
    scale = scales(points, cost, width);
    canvas.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    canvas.setAttribute("width", width);
    const line = ordered.filter(front).map((one) => `${scale.x(one.recall)},${scale.y(cost(one))}`);
    limit = s("line", { class: "limit", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, "aria-hidden": "true" });
    marks = ordered.map((one) => {
      const drawn = s("g", { role: "option", class: `mark kind-${one.kind}`, transform: `translate(${scale.x(one.recall)} ${scale.y(cost(one))})`, "aria-label": label(one) },
        s("circle", { class: "touch", r: 13 }), s("circle", { class: "ring", r: 11 }), s("path", { d: SHAPES[one.kind] ?? SHAPES.hnsw }));
      drawn.addEventListener("pointerenter", () => show(one, drawn));
      drawn.addEventListener("pointerleave", hide);
      drawn.addEventListener("focus", () => { reached = one.choice; show(one, drawn); roving(); });
      drawn.addEventListener("blur", hide);
      drawn.addEventListener("click", () => pick(one));
      return drawn;
    });
    canvas.replaceChildren(axes(scale, width, format), s("polyline", { class: "front", points: line.join(" "), "aria-hidden": "true" }), limit, ...marks);
    apply();
    if (focused >= 0) marks[focused].focus();
  }

  // Tab reaches one mark; the arrow keys move on from it.
  function roving() {
    const at = Math.max(0, ordered.findIndex((one) => one.choice === (reached ?? state.chosen)));
    marks.forEach((one, n) => one.setAttribute("tabindex", n === at ? 0 : -1));
  }

  function apply() {
    const at = scale.x(state.target);
    limit.setAttribute("x1", at);
    limit.setAttribute("x2", at);
    ordered.forEach((one, n) => {
      marks[n].setAttribute("aria-selected", one.choice === state.chosen);
      marks[n].classList.toggle("chosen", one.choice === state.chosen);
      marks[n].classList.toggle("current", one.current);
      marks[n].classList.toggle("short", one.recall < state.target);
      marks[n].classList.toggle("on-front", Boolean(front(one)));
    });
    roving();
  }

  function show(one, drawn) {
    tip.replaceChildren(describe(one));
    tip.hidden = false;
    const [box, whole] = [drawn.getBoundingClientRect(), place.getBoundingClientRect()];
    const right = box.right - whole.left + 8;
    const left = right + tip.offsetWidth <= whole.width ? right : Math.max(0, box.left - whole.left - tip.offsetWidth - 8);
    const top = box.top - whole.top + (box.height - tip.offsetHeight) / 2;
    tip.style.setProperty("left", `${left}px`);
    tip.style.setProperty("top", `${Math.min(Math.max(top, -30), whole.height - tip.offsetHeight)}px`);
  }

  function hide() {
    tip.hidden = true;
  }

  canvas.addEventListener("keydown", (event) => {
    const at = marks.indexOf(document.activeElement);
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") pick(ordered[at]);
    else if (event.key in NEXT) marks[(at + NEXT[event.key] + marks.length) % marks.length].focus();
    else if (event.key === "Home") marks[0].focus();
    else if (event.key === "End") marks.at(-1).focus();
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
  });
  new ResizeObserver(redraw).observe(place);
  redraw();
  return (changed) => {
    state = changed;
    apply();
  };
}
