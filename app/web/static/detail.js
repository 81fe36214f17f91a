// Details of one image: picture, metadata, and searches from it.
import { copy, h, number } from "./dom.js";
import { thumbnail, title } from "./results.js";

export function details(dialog, image, act) {
  const close = (then) => () => {
    dialog.close();
    then?.(image.id);
  };
  const rows = [
    ["Id", image.id], ["Size", image.width ? `${number(image.width)} × ${number(image.height)}` : null], ["Type", image.media_type],
    ["Added", new Date(image.created_at).toLocaleString()], ["Changed", new Date(image.updated_at).toLocaleString()],
  ].filter(([, value]) => value !== null);
  const attributes = Object.entries(image.attributes);
  dialog.replaceChildren(
    h("div", { class: "picture" }, thumbnail(image, 1024)),
    h("div", { class: "about" },
      h("div", { class: "bar" }, h("h2", { id: "detail-title" }, title(image)), h("span", { class: "push" }),
        h("button", { type: "button", class: "quiet icon", ariaLabel: "Close", onclick: close() }, "✕")),
      h("div", { class: "row" },
        h("button", { type: "button", class: "primary", onclick: close(act.search) }, "Find similar"),
        h("button", { type: "button", onclick: close(act.more) }, "More like this"),
        h("button", { type: "button", onclick: close(act.less) }, "Less like that")),
      attributes.length > 0 && h("h3", {}, "Attributes"),
      attributes.length > 0 && list(attributes.map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : String(value)])),
      h("h3", {}, "Stored"),
      list(rows),
      h("p", { class: "uri" }, image.uri),
      h("button", { type: "button", class: "link", onclick: () => copy(image.uri) }, "Copy address")),
  );
  dialog.showModal();
  dialog.onclick = (event) => {
    if (event.target === dialog) dialog.close();
  };
}

const list = (rows) => h("dl", { class: "plan" }, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));
