// Client of the API: keys, errors, thumbnails. The key is in sessionStorage, so it belongs to this tab only.
import { byId } from "./dom.js";

export const root = document.documentElement.dataset.root;
const KEY = "lookalike.key";

export class ApiError extends Error {
  constructor(code, message, { status = 0, request = null } = {}) {
    super(message);
    Object.assign(this, { code, status, request });
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

export async function send(path, options = {}) {
  for (let refused = false; ; refused = true) {
    const response = await attempt(path, options);
    if (response.status !== 401) return response.ok ? response : Promise.reject(await errorOf(response));
    const error = await errorOf(response);
    // If the user cancels the dialog, report the error instead of asking again.
    if (!(await askForKey(refused || hasKey() ? error.message : null))) throw error;
  }
}

async function attempt(path, { headers = {}, ...options }) {
  const key = sessionStorage.getItem(KEY);
  try {
    return await fetch(root + path, {
      ...options,
      headers: key === null ? headers : { ...headers, Authorization: `Bearer ${key}` },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreachable", "The connection failed. Is the server running?");
  }
}

async function errorOf(response) {
  try {
    const { error } = await response.json();
    return new ApiError(error.code, error.message, { status: response.status, request: error.request_id });
  } catch {
    return new ApiError("unreachable", `The server answered ${response.status} ${response.statusText}`, { status: response.status });
  }
}

export const get = async (path, options) => (await send(path, options)).json();

export const post = async (path, body, options) =>
  (await send(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), ...options })).json();

let asking = null;
function askForKey(why) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    const field = byId("key-field");
    byId("key-problem").hidden = why === null;
    byId("key-problem").textContent = why ?? "";
    field.value = "";
    dialog.returnValue = "";
    dialog.addEventListener(
      "close",
      () => {
        asking = null;
        const used = dialog.returnValue === "use" && field.value.trim() !== "";
        if (used) sessionStorage.setItem(KEY, field.value.trim());
        showKey();
        resolve(used);
      },
      { once: true },
    );
    dialog.showModal();
    field.focus();
  });
  return asking;
}

function showKey() {
  byId("forget-key").hidden = !hasKey();
}

byId("forget-key").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});
showKey();

// Thumbnails. With a key, which the browser cannot send for an <img>, fetch them when they come near the screen.
const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      fetchInto(target);
    }
  },
  { rootMargin: "400px" },
);

async function fetchInto(image) {
  try {
    const response = await send(image.dataset.path);
    const url = URL.createObjectURL(await response.blob());
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    image.src = url;
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

export function showThumbnail(image, id, size) {
  const path = `/v1/images/${id}/thumbnail?size=${size}`;
  if (hasKey()) {
    image.dataset.path = path;
    near.observe(image);
  } else {
    image.loading = "lazy";
    image.decoding = "async";
    image.src = root + path;
  }
  return image;
}

// Colours of the page; in this module, because every page loads it.
const THEMES = { system: "as the system", light: "light", dark: "dark" };
const theme = byId("theme");
const current = () => document.documentElement.dataset.theme ?? "system";
const label = () => theme.setAttribute("aria-label", `Colours: ${THEMES[current()]}`);
theme.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(current()) + 1) % names.length];
  if (next === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("lookalike.theme");
  } else {
    document.documentElement.dataset.theme = next;
    localStorage.setItem("lookalike.theme", next);
  }
  label();
});
label();
