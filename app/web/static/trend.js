// SVG chart of the recall of live searches over time: estimates, their 95 % interval as a band, the goal as a line.
const NAMESPACE = "http://www.w3.org/2000/svg";
const HEIGHT = 150;
const EDGE = { top: 10, right: 12, bottom: 24, left: 52 };

function s(tag, attributes = {}, text = null) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
}

// `points`: {began_at, recall, low, high, goal}, oldest first.
export function trend(points, width) {
  const times = points.map((one) => Date.parse(one.began_at));
  const [first, span] = [times[0], Math.max(1, times.at(-1) - times[0])];
  const goal = points.at(-1).goal;
  const bottom = Math.max(0, Math.min(goal, ...points.map((one) => one.low)) - 0.005);
  const x = (time) => EDGE.left + (points.length === 1 ? 0.5 : (time - first) / span) * (width - EDGE.left - EDGE.right);
  const y = (recall) => EDGE.top + ((1 - recall) / (1 - bottom)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const place = (name) => points.map((one, at) => `${x(times[at])},${y(one[name])}`);
  const latest = points.at(-1);
  const canvas = s("svg", { class: "trend", role: "img", viewBox: `0 0 ${width} ${HEIGHT}`, "aria-label": `Recall of live searches, ${points.length} points, the last ${latest.recall.toFixed(4)}; the goal is ${goal}` });
  for (const recall of [1, (1 + bottom) / 2, bottom]) {
    canvas.append(s("line", { class: "gridline", x1: EDGE.left, x2: width - EDGE.right, y1: y(recall), y2: y(recall) }));
    canvas.append(s("text", { x: EDGE.left - 8, y: y(recall) + 4, "text-anchor": "end" }, recall === 1 ? "1" : recall.toFixed(3)));
  }
  canvas.append(s("polygon", { class: "band", points: [...place("high"), ...place("low").reverse()].join(" ") }));
  canvas.append(s("line", { class: "goal", x1: EDGE.left, x2: width - EDGE.right, y1: y(goal), y2: y(goal) }));
  canvas.append(s("polyline", { class: "estimate", points: place("recall").join(" ") }));
  canvas.append(s("circle", { cx: x(times.at(-1)), cy: y(latest.recall), r: 3.5 }));
  const when = (time) => new Date(time).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
  canvas.append(s("text", { x: EDGE.left, y: HEIGHT - 6 }, when(first)));
  if (points.length > 1) canvas.append(s("text", { x: width - EDGE.right, y: HEIGHT - 6, "text-anchor": "end" }, when(times.at(-1))));
  return canvas;
}
