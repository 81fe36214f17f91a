// The search page. Its state is in the URL: every change updates the URL, and the page renders from it.
import { get, post, root, showThumbnail } from "./api.js";
import { details } from "./detail.js";
import { byId, h, number, problem } from "./dom.js";
import { explain } from "./explain.js";
import * as facets from "./facets.js";
import * as pictures from "./picture.js";
import * as results from "./results.js";
import { allowed, asked, body, byLook, read, write } from "./state.js";

const grid = byId("grid");
const notice = byId("notice");
let state = read(location.search);
let running = new AbortController();
let filtered = null;
const captions = new Map();

function go(change, { replace = false } = {}) {
  state = { ...state, ...change };
  const url = write(state);
  if (replace) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  refresh();
}

addEventListener("popstate", () => {
  state = read(location.search);
  refresh();
});

const toggled = (list, id) => (list.includes(id) ? list.filter((one) => one !== id) : [...list, id]);

const act = {
  search(id) {
    go({ image: id, picture: null, like: [], unlike: [], words: "" });
    scrollTo({ top: 0 });
  },
  more: (id) => go({ like: toggled(state.like, id), unlike: state.unlike.filter((one) => one !== id) }),
  less: (id) => go({ unlike: toggled(state.unlike, id), like: state.like.filter((one) => one !== id) }),
  details: (image) => details(byId("detail"), image, act),
};

async function refresh() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  controls();
  const filter = JSON.stringify(state.filter);
  if (filter !== filtered) {
    filtered = filter;
    facets.refresh(state.filter, (next) => go({ filter: next }));
  }
  notice.replaceChildren();
  name([state.image], signal);
  const looking = setTimeout(() => results.skeleton(grid, state.k), grid.children.length ? 150 : 0);
  try {
    await (asked(state) ? search(signal) : browse(signal));
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    grid.replaceChildren();
    byId("summary").textContent = "Nothing to show";
    notice.replaceChildren(problem(error, refresh));
  } finally {
    clearTimeout(looking);
    if (!signal.aborted) grid.removeAttribute("aria-busy");
  }
}

async function search(signal) {
  const picture = state.picture && pictures.recall(state.picture);
  if (state.picture && !picture) return lost();
  const began = performance.now();
  const answer = await post("/v1/search?explain=1", body(state, picture?.vector), { signal });
  const took = performance.now() - began;
  if (picture && answer.space !== picture.space) {
    pictures.forget(state.picture);
    return lost("The search now uses another model than when you sent this picture.");
  }
  remember(answer.results.map((one) => one.image));
  show(answer.results);
  const { length } = answer.results;
  const words = allowed(state).radius && state.radius !== null
    ? `${number(length)} within ${state.radius}${answer.complete === false ? ", and there are more" : ""}`
    : `${number(length)} ${length === 1 ? "image" : "images"}`;
  byId("summary").textContent = words;
  byId("summary").append(h("small", {}, ` in ${answer.timings.search_ms.toFixed(1)} ms`));
  byId("how").hidden = false;
  explain(byId("explain"), answer, took);
  if (!length) empty();
}

async function browse(signal) {
  byId("how").hidden = true;
  const given = new URLSearchParams({ limit: "60", seed: String(state.seed) });
  if (Object.keys(state.filter).length) given.set("filter", JSON.stringify(state.filter));
  const { images } = await get(`/v1/sample?${given}`, { signal });
  remember(images);
  show(images.map((image) => ({ image })));
  byId("summary").textContent = Object.keys(state.filter).length ? "From the gallery, filtered" : "From the gallery";
  byId("shuffle").hidden = images.length < 60;
  if (!images.length) await nothing();
}

function show(found) {
  byId("shuffle").hidden = true;
  results.show(grid, found, act, state);
  const focused = document.activeElement;
  if (focused === document.body && keyboard) grid.querySelector(".look")?.focus({ preventScroll: true });
}

// After a search by keyboard, focus the first result, because the focused element is gone.
let keyboard = false;
addEventListener("keydown", () => { keyboard = true; });
addEventListener("pointerdown", () => { keyboard = false; });

// Loads the captions of images from a link, which no response has contained yet.
async function name(ids, signal) {
  const unknown = ids.filter((id) => id !== null && !captions.has(id)).slice(0, 20);
  if (!unknown.length) return;
  const found = await Promise.allSettled(unknown.map((id) => get(`/v1/images/${id}`, { signal })));
  remember(found.filter((one) => one.status === "fulfilled").map((one) => one.value));
  if (!signal.aborted) byId("subjects").replaceChildren(...subjects());
}

function remember(images) {
  for (const image of images) captions.set(image.id, results.title(image));
}

const help = (title, text, ...more) => notice.replaceChildren(h("div", { class: "problem calm" }, h("h3", {}, title), h("p", {}, text), ...more));

function lost(why = "Your own picture is only in the browser tab where you dropped it, not in a link or another tab.") {
  grid.replaceChildren();
  byId("how").hidden = true;
  byId("summary").textContent = "Nothing to show";
  help("This picture is no longer here", `${why} Drop it here again to search by it.`,
    h("button", { type: "button", onclick: () => byId("file").click() }, "Choose the picture"));
}

function empty() {
  const ways = [];
  if (Object.keys(state.filter).length) ways.push(h("button", { type: "button", onclick: () => go({ filter: {} }) }, "Search without filters"));
  if (allowed(state).radius && state.radius !== null) ways.push(h("button", { type: "button", onclick: () => go({ radius: null }) }, "At any distance"));
  if (state.words && byLook(state)) ways.push(h("button", { type: "button", onclick: () => go({ words: "" }) }, "Without the words"));
  help("Nothing was found", state.words && !byLook(state) ? `No caption or attribute contains “${state.words}”. Only whole words match, and all of them must match.` : "No image matches all conditions.", h("div", { class: "row" }, ...ways));
}

async function nothing() {
  if (Object.keys(state.filter).length) return empty();
  const status = await get("/v1/status");
  const queued = status.spaces.reduce((sum, one) => sum + one.queued, 0);
  if (!status.images) help("The gallery is empty", "Add pictures with “lookalike ingest FOLDER”, POST /v1/images, or an INSERT into lookalike.images.");
  else if (!status.workers.some((one) => one.alive)) help("No image can be searched yet", `${number(status.images)} images wait for a worker. Start one with “lookalike worker”.`);
  else help("No image can be searched yet", `Workers are embedding images: ${number(queued)} are queued.`, h("p", {}, h("a", { href: `${root}/operate` }, "Watch the queue")));
}

function controls() {
  const can = allowed(state);
  const words = byId("words");
  if (document.activeElement !== words || words.value.trim() === "") words.value = state.words;
  byId("subjects").replaceChildren(...subjects());
  byId("chips").replaceChildren(...facets.chips(state.filter, (next) => go({ filter: next })));
  byId("clear-filter").hidden = !Object.keys(state.filter).length;
  if (document.activeElement !== byId("raw")) byId("raw").value = Object.keys(state.filter).length ? JSON.stringify(state.filter, null, 2) : "";
  byId("raw-problem").hidden = true;
  const k = byId("k");
  if (![...k.options].some((one) => Number(one.value) === state.k)) k.append(h("option", {}, String(state.k)));
  k.value = String(state.k);
  byId("radius").value = String(state.radius ?? 1.45);
  byId("radius-value").textContent = state.radius ?? "any";
  byId("radius").disabled = !can.radius;
  for (const one of document.getElementsByName("mode")) {
    one.checked = one.value === state.mode;
    one.disabled = one.value === "exact" ? !can.exact : one.value === "index" && !can.index;
  }
  const variety = state.diverse !== null ? "diverse" : state.distinct !== null ? "distinct" : "";
  byId("variety").value = variety;
  byId("variety").disabled = !can.variety;
  byId("variety-more").hidden = !variety || !can.variety;
  byId("variety-name").textContent = variety === "diverse" ? "Relevance against diversity" : "Minimum distance apart";
  byId("variety-amount").value = String(variety === "diverse" ? state.diverse : state.distinct ?? 0.35);
  byId("variety-value").textContent = byId("variety-amount").value;
  const note = !asked(state) ? "" : !byLook(state) ? "A search by words alone is always exact. Distance and variety need a picture." : state.words ? "Results are ordered by picture and words together. Distance and variety need a search without words." : "";
  byId("options-note").hidden = !note;
  byId("options-note").textContent = note;
}

function subjects() {
  const made = [];
  const chip = (kind, what, picture, remove) =>
    h("span", { class: `subject ${kind}`, role: "listitem" }, picture, h("span", { class: "kind" }, what),
      h("button", { type: "button", ariaLabel: `Remove ${what}`, onclick: remove }, "✕"));
  const stored = (id) => {
    const picture = showThumbnail(h("img", { alt: captions.get(id) ?? `Image ${id}`, width: 40, height: 40 }), id, 96);
    return picture;
  };
  if (state.picture) {
    const kept = pictures.recall(state.picture);
    made.push(chip("own", kept?.title ?? "Your picture", kept?.small && h("img", { src: kept.small, alt: "Your picture", width: 40, height: 40 }), () => go({ picture: null })));
  }
  if (state.image !== null) made.push(chip("like", captions.get(state.image) ?? `Image ${state.image}`, stored(state.image), () => go({ image: null })));
  for (const id of state.like) made.push(chip("like", "More like this", stored(id), () => go({ like: state.like.filter((one) => one !== id) })));
  for (const id of state.unlike) made.push(chip("unlike", byLook(state) ? "Less like that" : "Less like that: needs a positive example", stored(id), () => go({ unlike: state.unlike.filter((one) => one !== id) })));
  return made;
}

async function usePicture(file) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  results.skeleton(grid, state.k);
  byId("summary").textContent = "Embedding your picture…";
  notice.replaceChildren();
  try {
    const picture = await pictures.embed(file, signal);
    go({ picture, image: null, like: [], unlike: [], words: "" });
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    grid.removeAttribute("aria-busy");
    grid.replaceChildren();
    byId("summary").textContent = "Nothing to show";
    notice.replaceChildren(problem(error, () => usePicture(file)));
  }
}

pictures.listen(usePicture);
results.arrows(grid);

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  go({ words: byId("words").value.trim() });
});
byId("words").addEventListener("search", () => {
  if (byId("words").value === "" && state.words) go({ words: "" });
});
byId("clear-filter").addEventListener("click", () => go({ filter: {} }));
byId("shuffle").addEventListener("click", () => go({ seed: state.seed + 1 }));
byId("raw-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const showProblem = (text) => {
    byId("raw-problem").textContent = text;
    byId("raw-problem").hidden = false;
  };
  try {
    const filter = JSON.parse(byId("raw").value.trim() || "{}");
    if (filter === null || typeof filter !== "object" || Array.isArray(filter)) showProblem('A filter is a JSON object, such as {"price": {"$lt": 100}}.');
    else go({ filter });
  } catch (error) {
    showProblem(`This is not JSON: ${error.message}`);
  }
});

byId("k").addEventListener("change", () => go({ k: Number(byId("k").value) }));
byId("radius").addEventListener("input", () => {
  byId("radius-value").textContent = Number(byId("radius").value) >= 1.45 ? "any" : byId("radius").value;
});
byId("radius").addEventListener("change", () => go({ radius: Number(byId("radius").value) >= 1.45 ? null : Number(byId("radius").value) }));
for (const one of document.getElementsByName("mode")) one.addEventListener("change", () => go({ mode: one.value }));
byId("variety").addEventListener("change", () => {
  const kind = byId("variety").value;
  go({ diverse: kind === "diverse" ? 0.5 : null, distinct: kind === "distinct" ? 0.35 : null });
});
byId("variety-amount").addEventListener("input", () => { byId("variety-value").textContent = byId("variety-amount").value; });
byId("variety-amount").addEventListener("change", () => go({ [byId("variety").value]: Number(byId("variety-amount").value) }));
byId("options").addEventListener("submit", (event) => event.preventDefault());

byId("how").addEventListener("click", () => {
  const open = byId("explain").hidden;
  byId("explain").hidden = !open;
  byId("how").setAttribute("aria-expanded", String(open));
});
const side = (open) => () => {
  byId("side").classList.toggle("open", open);
  (open ? byId("close-side") : byId("open-side")).focus();
};
byId("open-side").addEventListener("click", side(true));
byId("close-side").addEventListener("click", side(false));
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    byId("words").focus();
  } else if (event.key === "Escape" && byId("side").classList.contains("open")) side(false)();
});

refresh();
