// Filter controls, built from the data. Conditions that the controls cannot show remain as chips and in the JSON.
import { get } from "./api.js";
import { byId, h, number } from "./dom.js";

const SHOWN = 7;
let latest = 0;

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// The chosen values of an attribute, or null if checkboxes cannot show its condition.
export function chosen(filter, { name, kind }) {
  if (!(name in filter)) return [];
  const condition = filter[name];
  if (kind === "element") return isObject(condition) && Object.keys(condition).join() === "$contains" ? [condition.$contains].flat() : null;
  if (!isObject(condition)) return [condition];
  return Object.keys(condition).join() === "$in" ? condition.$in : null;
}

export function range(filter, { name }) {
  const condition = filter[name];
  if (!isObject(condition)) return {};
  return { least: condition.$gte, most: condition.$lte };
}

function withValues(filter, facet, values) {
  const { [facet.name]: _, ...rest } = filter;
  if (!values.length) return rest;
  if (facet.kind === "element") return { ...rest, [facet.name]: { $contains: values } };
  return { ...rest, [facet.name]: values.length === 1 ? values[0] : { $in: values } };
}

export const without = (filter, name) => withValues(filter, { name }, []);

function withRange(filter, name, least, most) {
  const { [name]: _, ...rest } = filter;
  const condition = {};
  if (least !== null) condition.$gte = least;
  if (most !== null) condition.$lte = most;
  return Object.keys(condition).length ? { ...rest, [name]: condition } : rest;
}

const query = (filter, names = []) => {
  const given = new URLSearchParams(names.map((name) => ["name", name]));
  if (Object.keys(filter).length) given.set("filter", JSON.stringify(filter));
  const text = given.toString();
  return text ? `?${text}` : "";
};

// Count the values of a filtered attribute without its own condition, so that the other values stay visible.
async function read(filter) {
  const names = Object.keys(filter).filter((name) => !name.startsWith("$"));
  const [all, ...others] = await Promise.all([
    get(`/v1/facets${query(filter)}`),
    ...names.map((name) => get(`/v1/facets${query(without(filter, name), [name])}`)),
  ]);
  const unfiltered = others.flatMap((one) => one.facets);
  const facets = [...unfiltered, ...all.facets.filter((one) => !names.includes(one.name))];
  return { ...all, facets };
}

const useful = (facet, filter) =>
  facet.name in filter ||
  (facet.kind === "number" ? facet.minimum < facet.maximum : facet.distinct > 1 && !(facet.kind === "text" && facet.distinct > 20 && facet.distinct > facet.images / 2));

export async function refresh(filter, change) {
  const place = byId("facets");
  const turn = ++latest;
  place.setAttribute("aria-busy", "true");
  if (!place.children.length) place.append(...Array.from({ length: 8 }, () => h("p", { class: "skeleton line" })));
  let found;
  try {
    found = await read(filter);
  } catch (error) {
    if (turn === latest) place.replaceChildren(h("p", { class: "note" }, `Filters are not available: ${error.message}`));
    return;
  } finally {
    if (turn === latest) place.removeAttribute("aria-busy");
  }
  if (turn !== latest) return;
  const facets = found.facets.filter((facet) => useful(facet, filter)).sort((a, b) => (a.kind === "number") - (b.kind === "number") || label(a.name).localeCompare(label(b.name)) || a.kind.localeCompare(b.kind));
  const open = new Set([...place.querySelectorAll("details[open]")].map((one) => one.dataset.name));
  const first = place.querySelector("details") === null;
  const focused = document.activeElement?.dataset?.focus;
  place.replaceChildren(
    ...facets.map((facet, at) => group(facet, filter, change, found.exact, first ? at < 6 : open.has(facet.name + facet.kind))),
  );
  if (!facets.length) place.append(h("p", { class: "note" }, "These images have no attributes to filter by. Attributes are a JSON column of lookalike.images."));
  else if (!found.exact) place.append(h("p", { class: "note" }, "Counts are estimates from a sample."));
  if (focused) [...place.querySelectorAll("[data-focus]")].find((one) => one.dataset.focus === focused)?.focus();
}

const label = (name) => name.replace(/^attributes\./, "").replaceAll("\\.", ".").replaceAll("_", " ");

function group(facet, filter, change, exact, open) {
  const active = facet.name in filter;
  return h(
    "details",
    { class: "facet", open: open || active, "data-name": facet.name + facet.kind },
    h("summary", {}, h("span", {}, label(facet.name)), active && h("span", { class: "dot", title: "Filtered" })),
    facet.kind === "number" ? numbers(facet, filter, change) : values(facet, filter, change, exact),
  );
}

function values(facet, filter, change, exact) {
  const now = chosen(filter, facet);
  if (now === null) return h("p", { class: "note" }, "Filtered in the JSON below.");
  const listed = [...facet.values];
  for (const value of now) if (!listed.some((one) => one.value === value)) listed.push({ value, images: 0 });
  const most = Math.max(1, ...listed.map((one) => one.images));
  const rows = listed.map(({ value, images }, at) =>
    h("li", { hidden: at >= SHOWN && !now.includes(value) },
      h("label", { style: { "--share": String(images / most) } },
        h("input", {
          type: "checkbox", checked: now.includes(value), "data-focus": `${facet.name}=${JSON.stringify(value)}`,
          onchange: (event) => change(withValues(filter, facet, event.target.checked ? [...now, value] : now.filter((one) => one !== value))),
        }),
        h("span", { class: "value" }, String(value)),
        h("span", { class: "count" }, (exact ? "" : "≈") + number(images)))),
  );
  const rest = rows.filter((row) => row.hidden);
  const more = rest.length > 0 && h("button", {
    type: "button", class: "link",
    onclick: (event) => {
      for (const row of rest) row.hidden = false;
      event.target.remove();
      rest[0].querySelector("input").focus();
    },
  }, `${rest.length} more`);
  return h("div", {}, h("ul", { class: "values" }, ...rows), more);
}

function numbers(facet, filter, change) {
  const now = range(filter, facet);
  const apply = () => {
    const read = (input) => (input.value.trim() === "" ? null : Number(input.value));
    const [a, b] = [read(least), read(most)];
    change(withRange(filter, facet.name, a !== null && b !== null && a > b ? b : a, a !== null && b !== null && a > b ? a : b));
  };
  const field = (value, placeholder, what) =>
    h("input", { type: "number", step: "any", value: value ?? "", placeholder: number(placeholder), ariaLabel: `${label(facet.name)}, ${what}`, "data-focus": `${facet.name} ${what}`, onchange: apply });
  const least = field(now.least, facet.minimum, "at least");
  const most = field(now.most, facet.maximum, "at most");
  const top = Math.max(1, ...facet.histogram);
  const width = (facet.maximum - facet.minimum) / facet.histogram.length;
  const bars = facet.histogram.map((count, at) => {
    const from = facet.minimum + at * width;
    const inside = from + width > (now.least ?? -Infinity) && from < (now.most ?? Infinity);
    return h("span", { class: inside ? "in" : "", style: { "--height": String(count ? Math.max(0.06, count / top) : 0) }, title: `${number(from)} to ${number(from + width)}: ${number(count)}` });
  });
  return h("div", { class: "numbers" },
    bars.length > 0 && h("div", { class: "histogram", ariaHidden: "true" }, ...bars),
    h("div", { class: "between" }, least, h("span", { ariaHidden: "true" }, "to"), most));
}

export function chips(filter, change) {
  return Object.entries(filter).map(([name, condition]) =>
    h("button", { type: "button", class: "chip", ariaLabel: `Remove filter ${label(name)} ${describe(condition)}`, onclick: () => change(without(filter, name)) },
      h("span", {}, h("b", {}, label(name)), " ", describe(condition)), h("span", { ariaHidden: "true" }, "✕")),
  );
}

function describe(condition) {
  if (!isObject(condition)) return Array.isArray(condition) ? JSON.stringify(condition) : String(condition);
  const keys = Object.keys(condition).join();
  if (keys === "$in") return condition.$in.join(" or ");
  if (keys === "$gte,$lte") return `${number(condition.$gte)} to ${number(condition.$lte)}`;
  if (keys === "$gte") return `from ${number(condition.$gte)}`;
  if (keys === "$lte") return `to ${number(condition.$lte)}`;
  if (keys === "$contains") return `has ${[condition.$contains].flat().join(" and ")}`;
  return JSON.stringify(condition);
}
