// The search as stored in the URL, so that back, forward and shared links work.

const NUMBERS = { k: [1, 10000], radius: [0, 2], diverse: [0, 1], distinct: [0, 2] };

export const EMPTY = Object.freeze({
  image: null, picture: null, words: "", like: [], unlike: [], filter: {}, k: 24, radius: null,
  mode: "auto", diverse: null, distinct: null, seed: 0,
});

export function read(search) {
  const given = new URLSearchParams(search);
  const state = { ...EMPTY, image: id(given.get("image")), picture: given.get("picture"), words: given.get("words") ?? "" };
  state.like = ids(given.get("like"));
  state.unlike = ids(given.get("unlike"));
  for (const [name, [least, most]] of Object.entries(NUMBERS)) {
    const value = Number.parseFloat(given.get(name));
    if (value >= least && value <= most) state[name] = value;
  }
  state.k = Math.round(state.k);
  if (["exact", "index"].includes(given.get("mode"))) state.mode = given.get("mode");
  try {
    const filter = JSON.parse(given.get("filter") ?? "{}");
    if (filter && typeof filter === "object" && !Array.isArray(filter)) state.filter = filter;
  } catch {
    // The link is truncated, as in some mails: search without the filter.
  }
  state.seed = Number.parseInt(given.get("seed"), 10) || 0;
  return state;
}

export function write(state) {
  const given = new URLSearchParams();
  if (state.image !== null) given.set("image", state.image);
  if (state.picture) given.set("picture", state.picture);
  if (state.words) given.set("words", state.words);
  if (state.like.length) given.set("like", state.like.join(","));
  if (state.unlike.length) given.set("unlike", state.unlike.join(","));
  if (Object.keys(state.filter).length) given.set("filter", JSON.stringify(state.filter));
  if (state.k !== EMPTY.k) given.set("k", state.k);
  for (const name of ["radius", "diverse", "distinct"]) if (state[name] !== null) given.set(name, state[name]);
  if (state.mode !== "auto") given.set("mode", state.mode);
  if (state.seed) given.set("seed", state.seed);
  const text = given.toString();
  return text ? `?${text}` : location.pathname;
}

const id = (text) => (/^\d{1,18}$/.test(text ?? "") ? Number(text) : null);
const ids = (text) => [...new Set((text ?? "").split(",").map(id).filter((one) => one !== null))].slice(0, 100);

export const byLook = (state) => state.image !== null || state.picture !== null || state.like.length > 0;
export const asked = (state) => byLook(state) || state.words !== "";

// The options that this search allows; the API refuses the others.
export function allowed(state) {
  const look = byLook(state);
  const plain = look && !state.words;
  const varied = plain && (state.diverse !== null || state.distinct !== null);
  return { radius: plain, variety: plain, exact: look, index: plain && !varied };
}

// The body of POST /v1/search; `vector` is the picture's embedding, base64 of float16.
export function body(state, vector) {
  const can = allowed(state);
  const made = { k: state.k };
  if (state.image !== null) made.image_id = state.image;
  if (vector) Object.assign(made, { vector, vector_dtype: "float16" });
  if (state.words) made.text = state.words;
  if (state.like.length) made.like = state.like;
  if (byLook(state) && state.unlike.length) made.unlike = state.unlike;
  if (Object.keys(state.filter).length) made.filter = state.filter;
  if (can.radius && state.radius !== null) made.max_distance = state.radius;
  if (can.variety && state.diverse !== null) made.diverse = state.diverse;
  else if (can.variety && state.distinct !== null) made.distinct = state.distinct;
  if (can.exact && state.mode === "exact") made.recall = 1;
  if (can.index && state.mode === "index") made.strategy = "index";
  return made;
}
