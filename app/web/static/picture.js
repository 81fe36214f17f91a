// The user's own picture: dropped, pasted or chosen. The tab's session stores its embedding and a small copy; the file
// itself is sent once and stored nowhere.
import { ApiError, send } from "./api.js";
import { byId } from "./dom.js";

const PREFIX = "lookalike.picture.";
const KEPT = 12;

export function recall(name) {
  try {
    return JSON.parse(sessionStorage.getItem(PREFIX + name));
  } catch {
    return null;
  }
}

export const forget = (name) => sessionStorage.removeItem(PREFIX + name);

// Sends the file with one search, and returns its name in the URL.
export async function embed(file, signal) {
  const form = new FormData();
  form.append("image", file, "picture");
  form.append("k", "1");
  const answer = await (await send("/v1/search?explain=1", { method: "POST", body: form, signal })).json();
  if (!answer.vector) throw new ApiError("image_error", "the server gave no embedding for this picture");
  const name = [...crypto.getRandomValues(new Uint8Array(6))].map((one) => one.toString(16).padStart(2, "0")).join("");
  keep(name, { vector: answer.vector, space: answer.space, title: file.name || "Pasted picture", small: await smaller(file) });
  return name;
}

function keep(name, entry) {
  const names = Object.keys(sessionStorage).filter((key) => key.startsWith(PREFIX));
  const oldest = names.map((key) => [JSON.parse(sessionStorage.getItem(key)).at ?? 0, key]).sort((a, b) => a[0] - b[0]);
  for (const [, key] of oldest.slice(0, Math.max(0, names.length - KEPT + 1))) sessionStorage.removeItem(key);
  sessionStorage.setItem(PREFIX + name, JSON.stringify({ ...entry, at: Date.now() }));
}

async function smaller(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, 192 / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return canvas.toDataURL("image/jpeg", 0.85);
  } catch {
    return null; // A format that the server supports and the browser does not, such as TIFF.
  }
}

export function listen(use) {
  const drop = byId("drop");
  const file = byId("file");
  let depth = 0;
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const end = () => {
    depth = 0;
    drop.hidden = true;
  };
  addEventListener("dragenter", (event) => {
    if (!carries(event)) return;
    depth++;
    drop.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (carries(event) && --depth <= 0) end();
  });
  addEventListener("dragover", (event) => {
    if (carries(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    end();
    if (event.dataTransfer.files.length) use(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const picture = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!picture) return;
    event.preventDefault();
    use(picture);
  });
  byId("choose").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    if (file.files.length) use(file.files[0]);
    file.value = ""; // allow the same file to be chosen again
  });
}
