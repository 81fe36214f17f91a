// The measured index choices: the cost of recall in latency, storage and build time, and the choice in use.
import { get } from "./api.js";
import { KINDS, chart, mark } from "./chart.js";
import { byId, bytes, copy, duration, h, number, problem } from "./dom.js";

const STEPS = [0.5, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.975, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.997, 0.998, 0.999, 0.9995, 1];
const ms = (value) => `${value < 10 ? value.toFixed(value < 1 ? 2 : 1) : Math.round(value)} ms`;
const share = (value) => (value === 1 ? "1" : value.toFixed(value > 0.9995 ? 5 : 4));
const COSTS = {
  latency: { title: "Latency for recall", axis: "milliseconds per search, p50", cost: (one) => one.p50_ms, format: ms, front: (one) => one.fast, label: "p50 of a search" },
  storage: { title: "Storage for recall", axis: "bytes per image, embedding and indexes", cost: (one) => one.bytes_per_image, format: bytes, front: (one) => one.small, label: "per image, with indexes" },
  build: { title: "Build time for recall", axis: "seconds to build the index", cost: (one) => one.build_seconds, format: (value) => (value ? duration(value) : "0"), front: () => false, label: "to build" },
};

const asked = new URLSearchParams(location.search);
const slider = byId("recall");
let points = [];
let space = null;
let picked = null;
let updates = [];

async function read() {
  const query = new URLSearchParams(["space", "run"].filter((name) => asked.has(name)).map((name) => [name, asked.get(name)]));
  byId("notice").replaceChildren();
  try {
    const found = await get(`/v1/tradeoffs${query.size ? `?${query}` : ""}`);
    points = found.points;
    space = found.space;
    byId("about").replaceChildren(...about(found));
    byId("measured").hidden = points.length === 0;
    byId("empty").hidden = points.length > 0;
    if (points.length) draw(found);
    else explain(found);
  } catch (error) {
    byId("about").replaceChildren();
    byId("notice").replaceChildren(problem(error, read));
  }
}

function about({ space, run }) {
  if (run === null) return [`Embedding space ${space}`];
  const of = run.rows < run.rows_total ? `${number(run.rows)} of ${number(run.rows_total)} images` : `${number(run.rows)} images`;
  const state = run.ended_at === null ? " The run is not complete: the charts show its results so far." : "";
  return [`Embedding space ${space}: ${of}, k ${run.k}, ${number(run.queries)} queries, measured ${new Date(run.started_at).toLocaleString()}.${state}`];
}

function explain({ space, current }) {
  byId("empty").replaceChildren(
    h("h2", {}, "Nothing has been measured yet"),
    h("p", {}, `Space ${space} uses `, h("code", {}, current), ". One command measures what other choices would give and cost on your own images. It only reads your tables, and builds indexes in a scratch database."),
    ...["lookalike tradeoffs --quick", "lookalike tradeoffs"].map((command) => line(command)),
    h("p", { class: "note" }, "The first one takes about two minutes on a small gallery. Then reload this page."));
}

const line = (command) => h("div", { class: "command" }, h("code", {}, command), h("button", { type: "button", ariaLabel: `Copy ${command}`, onclick: () => copy(command) }, "Copy"));

function draw({ current }) {
  byId("legend").replaceChildren(...Object.entries(KINDS).filter(([kind]) => points.some((one) => one.kind === kind)).map(([kind, name]) => h("li", {}, mark(kind), name)),
    h("li", {}, h("span", { class: "ring-key", ariaHidden: "true" }), points.some((one) => one.current) ? "in use" : `in use, not measured: ${current}`));
  updates = Object.entries(COSTS).map(([name, one]) => chart(byId(`chart-${name}`), { ...one, points, describe, label, pick }));
  slider.max = STEPS.length - 1;
  slider.value = nearest(Number(asked.get("recall")) || 0.99);
  const by = asked.get("by");
  if (by in COSTS) byId(`by-${by}`).checked = true;
  table();
  choose();
}

const nearest = (recall) => STEPS.reduce((best, one, at) => (Math.abs(one - recall) < Math.abs(STEPS[best] - recall) ? at : best), 0);

const words = (one) => [
  ["recall", `${share(one.recall)}, above ${share(one.recall_floor)} with 95 % confidence`],
  ["latency", `p50 ${ms(one.p50_ms)}, p95 ${ms(one.p95_ms)}, p99 ${ms(one.p99_ms)}`],
  ["searches per second", Object.entries(one.qps).map(([clients, rate]) => `${number(Math.round(rate))} with ${clients} client${clients === "1" ? "" : "s"}`).join(", ") || "–"],
  ["size per image", `${bytes(one.bytes_per_image)}, of which index ${bytes(one.index_bytes_per_image)}`],
  ["build", `${duration(one.build_seconds)}, ${bytes(one.memory_bytes)} of memory`],
  ["write of a row", ms(one.insert_ms)],
  ...(one.label_precision === null ? [] : [["label precision", share(one.label_precision)]]),
];

const label = (one) => `${one.choice}${one.current ? ", in use" : ""}: ${words(one).map((pair) => pair.join(" ")).join("; ")}`;

const describe = (one) =>
  h("div", {}, h("p", {}, h("b", {}, one.choice), one.current && h("span", { class: "badge good" }, "in use")), h("p", { class: "note" }, KINDS[one.kind] ?? one.kind),
    h("dl", {}, ...words(one).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));

// Picks the cheapest choice with at least the requested recall.
function choose() {
  const target = STEPS[Number(slider.value)];
  const by = document.querySelector('input[name="by"]:checked').value;
  const enough = points.filter((one) => one.recall >= target);
  const { cost } = COSTS[by];
  const cheapest = [...enough].sort((a, b) => cost(a) - cost(b) || a.p50_ms - b.p50_ms || b.recall - a.recall)[0] ?? null;
  byId("recall-value").value = String(target);
  slider.setAttribute("aria-valuetext", `recall ${target}`);
  byId("enough").textContent = `${enough.length} of ${points.length} measured choices reach it`;
  keep(target, by);
  settle(cheapest, target);
}

function keep(target, by) {
  asked.set("recall", target);
  asked.set("by", by);
  history.replaceState(null, "", `?${asked}`);
}

const pick = (one) => settle(one, STEPS[Number(slider.value)]);

function settle(one, target) {
  picked = one;
  for (const update of updates) update({ target, chosen: one?.choice ?? null });
  for (const row of byId("rows").children) row.classList.toggle("chosen", row.dataset.choice === one?.choice);
  const current = points.find((other) => other.current);
  byId("price").replaceChildren(...(one === null ? [h("p", {}, "No measured choice reaches this recall.")] : priced(one, current, target)));
}

function priced(one, current, target) {
  const figure = ({ cost, format, label }) => h("div", { class: "figure" }, h("b", {}, format(cost(one))), h("span", {}, label), h("span", { class: "than" }, against(cost(one), current && cost(current), one === current)));
  return [
    h("p", { class: "picked" }, mark(one.kind), h("code", {}, one.choice), one.current && h("span", { class: "badge good" }, "in use"),
      h("span", { class: "note" }, `recall ${share(one.recall)}, above ${share(one.recall_floor)} with 95 % confidence`)),
    h("div", { class: "tiles" }, ...Object.values(COSTS).map(figure)),
    ...(one.current ? [] : [line(`lookalike tune --recall ${target}${space && asked.has("space") ? ` --space ${space}` : ""}`),
      h("p", { class: "note" }, "tune uses the lower confidence bound of the recall, and reports what a choice gives up. With --apply it builds the index and switches to it while searches continue.")]),
  ];
}

function against(value, other, same) {
  if (same || other === undefined) return same ? "as now" : "";
  if (!other || !value) return value === other ? "as now" : "";
  const ratio = value / other;
  if (Math.abs(ratio - 1) < 0.015) return "as now";
  return ratio < 1 ? `${(1 / ratio).toFixed(1 / ratio < 10 ? 1 : 0)} × less than now` : `${ratio.toFixed(ratio < 10 ? 1 : 0)} × as much as now`;
}

function table() {
  byId("rows").replaceChildren(...points.map((one) =>
    h("tr", { "data-choice": one.choice },
      h("td", {}, mark(one.kind), " ", h("code", {}, one.choice), " ", one.current && h("span", { class: "badge good" }, "in use"), one.best && h("span", { class: "badge" }, "unbeaten")),
      ...[share(one.recall), ms(one.p50_ms), ms(one.p95_ms), number(Math.round(Math.max(0, ...Object.values(one.qps)))), bytes(one.bytes_per_image), one.build_seconds ? duration(one.build_seconds) : "–", ms(one.insert_ms)].map((value) => h("td", { class: "number" }, value)))));
}

slider.addEventListener("input", choose);
for (const one of document.querySelectorAll('input[name="by"]')) one.addEventListener("change", choose);
read();
