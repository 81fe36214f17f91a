// How a search was done: SQL to copy, plan, timings.
import { copy, h, number } from "./dom.js";

const KEYWORDS = /('(?:[^']|'')*')|\b(SELECT|FROM|JOIN|USING|ORDER BY|WHERE|LIMIT|AS|ARRAY|DESC)\b|\b(lookalike)\.(\w+)/g;

export function explain(place, answer, took) {
  place.replaceChildren(sql(answer.sql), h("div", { class: "explain-side" }, timings(answer, took), plan(answer.plan)));
}

function sql(text) {
  // A vector of a thousand numbers is copied in full but shown shortened.
  const short = text.replace(/'\[([^,\]]*,[^,\]]*,)[^\]]*\]'/g, (_, start) => `'[${start}…]'`);
  const code = h("code", {});
  let at = 0;
  for (const match of short.matchAll(KEYWORDS)) {
    code.append(short.slice(at, match.index));
    const kind = match[1] ? "text" : match[2] ? "word" : "call";
    code.append(h("span", { class: kind }, match[0]));
    at = match.index + match[0].length;
  }
  code.append(short.slice(at));
  return h("div", { class: "sql" },
    h("div", { class: "bar" }, h("h3", {}, "SQL"), h("span", { class: "push" }), h("button", { type: "button", onclick: () => copy(text) }, "Copy SQL")),
    h("pre", { tabIndex: 0, role: "region", ariaLabel: "SQL" }, code),
    h("p", { class: "note" }, "Run it in psql to get these results."));
}

function timings({ timings }, took) {
  const stages = [["Embedding", timings?.embed_ms], ["Search in SQL", timings?.search_ms], ["Server, total", timings?.total_ms], ["In this browser", took]].filter(([, ms]) => typeof ms === "number");
  const most = Math.max(...stages.map(([, ms]) => ms), 0.001);
  return h("div", {}, h("h3", {}, "Timings"),
    h("dl", { class: "timings" }, ...stages.flatMap(([name, ms]) => [h("dt", {}, name), h("dd", {}, h("span", { class: "meter", style: { "--share": String(ms / most) } }), `${ms.toFixed(1)} ms`)])));
}

function plan(plan) {
  if (!plan || !Object.keys(plan).length) return h("div", {}, h("h3", {}, "Plan"), h("p", { class: "note" }, "Only a plain search has a plan: without words, variety or pages."));
  const rows = Object.entries(plan).filter(([name]) => name !== "space");
  return h("div", {}, h("h3", {}, "Plan"),
    h("dl", { class: "plan" }, ...rows.flatMap(([name, value]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, shown(value))])));
}

function shown(value) {
  if (typeof value === "number") return number(value);
  if (value === null) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
