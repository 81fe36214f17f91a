// Creates elements. Text is always set as text, so that a caption is never parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  set(element, properties);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name in element && name !== "list" && name !== "role") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
}

export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("class", "line");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

export const ICONS = {
  more: "M12 5v14M5 12h14",
  less: "M5 12h14",
  info: "M12 11v6M12 7.5v.5M3 12a9 9 0 1 0 18 0a9 9 0 1 0-18 0",
  close: "M6 6l12 12M18 6L6 18",
};

export const byId = (id) => document.getElementById(id);

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 4 });
export const number = (value) => numbers.format(value);

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; count >= 1000 && at < units.length - 1; at++) count /= 1000;
  return `${count < 10 && at ? count.toFixed(1) : Math.round(count)} ${units[at]}`;
}

export function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

let clearing = 0;
export function toast(text) {
  const place = byId("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(clearing);
  clearing = setTimeout(() => place.classList.remove("shown"), 4000);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    // Without https, browsers may deny the clipboard; execCommand still works.
    const area = h("textarea", { class: "unseen", value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    toast(done ? "Copied" : "The browser did not allow copying; select the text by hand");
  }
}

export function problem(error, retry) {
  const help = HELP[error.code];
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("h3", {}, TITLES[error.code] ?? "That did not work"),
    h("p", {}, error.message),
    help && h("p", { class: "note" }, help),
    retry && h("button", { type: "button", onclick: retry }, "Try again"),
    error.request && h("p", { class: "note" }, `Request ${error.request}`),
  );
}

const TITLES = {
  no_worker: "No worker is running",
  query_timeout: "The workers are busy",
  database_unavailable: "The database does not answer",
  query_canceled: "The search took too long",
  image_error: "This picture cannot be read",
  not_found: "There is no such image",
  invalid_input: "This search is not valid",
  unreachable: "The server does not answer",
  unauthorized: "An API key is needed",
  forbidden: "This key does not allow that",
  too_many_requests: "Too many requests",
};
const HELP = {
  no_worker: "A search by your own picture needs a worker. Searches by gallery images and by words work without one.",
  image_error: "Use a JPEG, PNG, WebP, GIF, BMP or TIFF file.",
  database_unavailable: "It may be restarting. Searches work again as soon as it is up.",
};
