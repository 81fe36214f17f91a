// The grid of pictures. Every tile has its size before its picture arrives, so that nothing moves.
import { showThumbnail } from "./api.js";
import { h, icon, ICONS, number } from "./dom.js";

export const title = (image) => image.caption?.trim() || image.uri.split(/[\\/]/).filter(Boolean).at(-1) || image.uri;

export function skeleton(grid, count) {
  grid.setAttribute("aria-busy", "true");
  grid.replaceChildren(
    ...Array.from({ length: Math.min(count, 24) }, () =>
      h("li", { class: "tile skeleton", ariaHidden: "true" }, h("div", { class: "frame" }), h("div", { class: "under" }, h("p", { class: "line" }), h("p", { class: "line short" }))),
    ),
  );
}

export function show(grid, results, act, marks) {
  grid.removeAttribute("aria-busy");
  grid.replaceChildren(...results.map((result) => tile(result, act, marks)));
}

function tile({ image, distance, similarity, score }, act, { like, unlike }) {
  const name = title(image);
  const far = distance === null || distance === undefined ? null : distance;
  const toggle = (what, list, verb) =>
    h("button", {
      type: "button", class: `round ${what}`, ariaPressed: String(list.includes(image.id)), title: verb,
      ariaLabel: `${verb}: ${name}`, onclick: () => act[what](image.id),
    }, icon(ICONS[what]));
  return h(
    "li",
    { class: "tile", "data-id": image.id },
    h(
      "div",
      { class: "frame" },
      h("button", { type: "button", class: "look", ariaLabel: `What looks like ${name}?`, onclick: () => act.search(image.id) }, thumbnail(image, 320)),
      h("div", { class: "actions" }, toggle("more", like, "More like this"), toggle("less", unlike, "Less like that"),
        h("button", { type: "button", class: "round", title: "Details", ariaLabel: `Details of ${name}`, onclick: () => act.details(image) }, icon(ICONS.info))),
    ),
    h(
      "div",
      { class: "under" },
      h("p", { class: "name", title: name }, name),
      h(
        "p",
        { class: "facts" },
        far !== null && h("span", { class: "distance", title: `L2 distance ${far}; cosine similarity ${number(similarity)}`, style: { "--near": String(Math.max(0, 1 - far / 1.42)) } }, far.toFixed(3)),
        far === null && score !== null && score !== undefined && h("span", { class: "distance plain", title: "Relevance of the words" }, `score ${number(score)}`),
        h("span", { class: "attributes" }, facts(image.attributes)),
      ),
    ),
  );
}

export function thumbnail(image, size) {
  const picture = h("img", { alt: "" });
  picture.addEventListener("load", () => picture.classList.add("here"));
  picture.addEventListener("error", () => {
    picture.replaceWith(h("span", { class: "gone" }, "Picture not available"));
  }, { once: true });
  return showThumbnail(picture, image.id, size);
}

// Up to three short attributes, texts before numbers.
function facts(attributes) {
  const texts = Object.values(attributes).filter((value) => typeof value === "string" && value.length <= 24);
  const numbers = Object.entries(attributes).filter(([, value]) => typeof value === "number").map(([name, value]) => `${name} ${number(value)}`);
  return [...texts, ...numbers].slice(0, 3).join(" · ");
}

// Arrow keys move between the pictures by their position on the screen; every picture is in the tab order too.
export function arrows(grid) {
  grid.addEventListener("keydown", (event) => {
    const tiles = [...grid.querySelectorAll(".look")];
    const at = tiles.indexOf(document.activeElement);
    if (at < 0) return;
    const columns = tiles.filter((one) => one.getBoundingClientRect().top === tiles[0].getBoundingClientRect().top).length;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: tiles.length - 1 }[event.key];
    if (to === undefined || !tiles[to]) return;
    event.preventDefault();
    tiles[to].focus();
  });
}
