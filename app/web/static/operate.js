// The operator's page: queue, spaces, workers, failures.
import { get, post } from "./api.js";
import { byId, bytes, duration, h, number, problem, toast } from "./dom.js";
import { follow } from "./live.js";
import { thumbnail } from "./results.js";
import { trend } from "./trend.js";

const CAP = 100000;
const capped = (count) => (count >= CAP ? `${number(CAP)}+` : number(count));
let before = null;
let failures = "";

function showState({ at, status, builds, failures: failed }) {
  byId("notice").replaceChildren();
  const rate = speed(at, status.workers);
  tiles(status, rate);
  byId("spaces").replaceChildren(...(status.spaces.length ? status.spaces.map((space) => spaceCard(space, status, builds, rate)) : [calm("There is no embedding space yet. The first “lookalike worker” creates one.")]));
  freshness(status);
  workers(status.workers, at);
  showFailures(failed, status);
}

// Images per second, from the workers' counts in two states that are at least four seconds apart.
function speed(at, workers) {
  const time = Date.parse(at) / 1000;
  const done = workers.reduce((sum, one) => sum + one.images_embedded, 0);
  if (!before || done < before.done) before = { time, done, rate: null };
  else if (time - before.time >= 4) before = { time, done, rate: (done - before.done) / (time - before.time) };
  return before.rate;
}

function tiles(status, rate) {
  const active = status.spaces.find((one) => one.active);
  const queued = status.spaces.reduce((sum, one) => sum + one.queued, 0);
  const failed = status.spaces.reduce((sum, one) => sum + one.failed, 0);
  const oldest = Math.max(0, ...status.spaces.map((one) => one.oldest_job_seconds ?? 0));
  const live = status.workers.filter((one) => one.alive).length;
  const figure = (value, name, kind = "") => h("div", { class: `figure ${kind}` }, h("b", {}, value), h("span", {}, name));
  byId("tiles").replaceChildren(
    figure(capped(status.images), "images"),
    figure(active ? capped(active.embedded) : "–", "searchable now"),
    figure(capped(queued), rate ? `queued, ${rate.toFixed(1)} per second` : "queued"),
    figure(queued ? duration(oldest) : "–", "age of the oldest", oldest > 300 ? "warn" : ""),
    figure(number(live), live === 1 ? "live worker" : "live workers", live ? "" : "bad"),
    figure(capped(failed), "failed", failed ? "warn" : ""),
  );
}

function spaceCard(space, status, builds, rate) {
  const build = builds.find((one) => one.space === space.name);
  const all = space.embedded + space.queued + space.failed;
  const left = rate && space.queued ? `, ${duration(space.queued / rate)} left` : "";
  return h("article", { class: "card" },
    h("div", { class: "bar" }, h("h3", {}, space.name), space.active && h("span", { class: "badge good" }, "active"),
      h("span", { class: "push" }), h("span", { class: "note" }, `${space.model} · ${number(space.dimensions)} dimensions · ${bytes(space.bytes)}`)),
    bar("Embedded", space.embedded, Math.max(all, 1), `${capped(space.embedded)} of ${capped(all)}${left}`),
    build ? bar("Index", build.done, 1, `${build.phase}, ${Math.floor(build.done * 100)} %`) : h("p", { class: "note" }, index(space)));
}

function index(space) {
  if (space.index_name === null) return "No index yet: searches are exact. A worker builds it once the queue is empty and there are enough images.";
  return space.index_valid ? `Index ${space.index_name}: ready.` : `Index ${space.index_name} is not valid: its build is running or has failed. See “lookalike index status”.`;
}

const bar = (name, value, most, text) =>
  h("div", { class: "progress" }, h("span", {}, name), h("progress", { value, max: most, ariaLabel: `${name}: ${text}` }), h("span", {}, text));

const periods = { 60: "Last minute", 300: "Last 5 minutes", 3600: "Last hour", 86400: "Last day", 604800: "Last 7 days" };
const period = (seconds) => periods[seconds] ?? `Last ${duration(seconds)}`;

// How soon new images are searchable, and query images are embedded.
function freshness(status) {
  const active = status.spaces.find((one) => one.active);
  const rows = status.freshness.filter((one) => one.space === active?.name).sort((a, b) => a.period_seconds - b.period_seconds);
  if (!rows.some((one) => one.images || one.queries)) return byId("freshness").replaceChildren(calm("No image and no query image has been embedded in the last hour."));
  const time = (value) => (value === null ? "–" : duration(value));
  const cells = (one) => [number(one.images), time(one.searchable_p50), time(one.searchable_p95), number(one.queries), time(one.query_p50), time(one.query_p95)];
  byId("freshness").replaceChildren(
    h("div", { class: "scroll", tabIndex: 0, role: "region", ariaLabel: "Table of freshness" },
      h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, `In ${active.name}`), ...["Images", "Searchable after, p50", "p95", "Query images", "Embedded after, p50", "p95"].map((one) => h("th", { class: "number" }, one)))),
        h("tbody", {}, ...rows.map((one) => h("tr", {}, h("td", {}, period(one.period_seconds)), ...cells(one).map((value) => h("td", { class: "number" }, value))))))),
  );
}

function showRecall({ waiting, estimates, hours, days, adjustments }) {
  const all = estimates.filter((one) => one.plan === null && one.selectivity === null && one.recall !== null).sort((a, b) => a.period_seconds - b.period_seconds);
  const points = hours.length > 1 ? hours : days;
  if (!all.length) return byId("recall").replaceChildren(calm(`No live search has been checked yet${waiting ? `; ${number(waiting)} wait` : ""}. Idle workers check a share of them (LOOKALIKE_RECALL_SAMPLE).`));
  const share = (value) => value.toFixed(4);
  const drawn = h("div", {});
  byId("recall").replaceChildren(h("article", { class: "card" },
    h("div", { class: "tiles" }, ...all.map((one) => h("div", { class: `figure ${one.below ? "bad" : ""}` }, h("b", {}, share(one.recall)), h("span", {}, `${period(one.period_seconds).toLowerCase()}: ${share(one.low)} to ${share(one.high)}, ${number(one.searches)} checked`)))),
    all.some((one) => one.below) && h("p", { class: "bad" }, `Below the goal of ${Number(all.find((one) => one.below).goal.toFixed(4))}; see “lookalike doctor”.`),
    points.length > 0 && drawn,
    ...adjustments.slice(0, 3).map((one) => h("p", { class: "note" }, `${new Date(one.adjusted_at).toLocaleString()}: search depth of ${one.space} is ${number(one.to_depth)} times the configured one, before ${number(one.from_depth)}. ${one.reason}`))));
  if (points.length) drawn.append(trend([...points].sort((a, b) => Date.parse(a.began_at) - Date.parse(b.began_at)), Math.max(280, drawn.clientWidth)));
}

async function readRecall() {
  try {
    showRecall(await get("/v1/recall"));
  } catch (error) {
    byId("recall").replaceChildren(problem(error, readRecall));
  }
}

function workers(all, at) {
  if (!all.length) return byId("workers").replaceChildren(calm("No worker has run yet. Start one with “lookalike worker”, or use “lookalike up”."));
  const shown = [...all].sort((a, b) => b.alive - a.alive).slice(0, 50);
  const since = (time) => duration(Math.max(0, (Date.parse(at) - Date.parse(time)) / 1000));
  byId("workers").replaceChildren(
    h("div", { class: "scroll", tabIndex: 0, role: "region", ariaLabel: "Table of workers" },
      h("table", {}, h("thead", {}, h("tr", {}, ...["Worker", "State", "Device", "Up"].map((one) => h("th", {}, one)), ...["Embedded", "Failed", "Query images"].map((one) => h("th", { class: "number" }, one)), h("th", {}, "Last error"))),
        h("tbody", {}, ...shown.map((one) => h("tr", {},
          h("td", {}, one.name, " ", h("small", {}, one.version)),
          h("td", {}, h("span", { class: `badge ${one.alive ? "good" : "bad"}` }, one.alive ? one.state : `silent for ${since(one.heartbeat_at)}`)),
          h("td", {}, one.device), h("td", {}, since(one.started_at)),
          ...[one.images_embedded, one.images_failed, one.queries_answered].map((count) => h("td", { class: "number" }, number(count))),
          h("td", { class: "wrap" }, one.last_error ?? "–")))))),
  );
}

function showFailures(failed, status) {
  const all = status.spaces.reduce((sum, one) => sum + one.failed, 0);
  byId("retry-all").hidden = all === 0;
  byId("retry-all").textContent = `Retry all ${capped(all)}`;
  // Redraw only after a change, so that pictures do not flicker and buttons keep their focus.
  const now = JSON.stringify(failed);
  if (now === failures) return;
  failures = now;
  if (!failed.length) return byId("failures").replaceChildren(calm("No image has failed."));
  byId("failures").replaceChildren(h("ul", { class: "failures" }, ...failed.map(failure)),
    ...(all > failed.length ? [h("p", { class: "note" }, `The latest ${failed.length} of ${capped(all)}; lookalike.failures has all of them.`)] : []));
}

function failure(one) {
  return h("li", { class: "failure" },
    h("div", { class: "frame" }, thumbnail({ id: one.image_id }, 160)),
    h("div", {}, h("p", {}, h("b", {}, `Image ${one.image_id}`), " ", h("span", { class: "badge bad" }, one.step)),
      h("p", { class: "reason" }, one.reason),
      h("p", { class: "uri" }, one.uri),
      h("p", { class: "note" }, `${one.attempts} ${one.attempts === 1 ? "try" : "tries"}, ${new Date(one.failed_at).toLocaleString()}`),
      h("button", { type: "button", ariaLabel: `Retry image ${one.image_id}`, onclick: (event) => retry(event.target, { image_ids: [one.image_id] }) }, "Retry")));
}

async function retry(button, what) {
  button.disabled = true;
  try {
    const { queued } = await post("/v1/failures/retry", what);
    toast(queued ? `${number(queued)} queued again` : "Nothing left to retry");
    failures = "";
  } catch (error) {
    byId("notice").replaceChildren(problem(error));
  } finally {
    button.disabled = false;
  }
}

byId("retry-all").addEventListener("click", (event) => retry(event.target, {}));

const calm = (text) => h("div", { class: "problem calm" }, h("p", {}, text));

function showConnection(how, error) {
  const live = byId("live");
  live.className = `live ${how === "off" ? "off" : "on"}`;
  const text = { stream: "Live", poll: "Every 3 seconds", off: "Not connected" }[how];
  if (byId("live-text").textContent !== text) byId("live-text").textContent = text;
  if (how === "off") byId("notice").replaceChildren(problem(error));
}

follow(showState, showConnection);
// Workers check recall in idle time, so once a minute is often enough.
readRecall();
setInterval(() => document.hidden || readRecall(), 60_000);
