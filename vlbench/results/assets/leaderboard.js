"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// What the columns are called and how their values are shown -------------------------------------------------------

const LABELS = {
  rank: "rank", method: "method", protocol: "protocol", dataset: "dataset", lists: "lists", shots: "shots",
  backbone: "backbone", weights: "weights", trained_on: "trained on", top1: "top-1 %", top5: "top-5 %", map: "mAP %",
  mean_per_class: "mean per class %", base: "base %", novel: "novel %", hm: "harmonic mean %",
  half_top1: "half classes %", order_score: "order score", time_score: "time score", upper_bound: "upper bound %", trainable_params: "trainable",
  trainable_percent: "trainable %", device_hours: "hours × devices", clips_per_second: "clips/s",
  peak_memory_gb: "peak memory GB", gflops_view: "GFLOPs a view", gflops_video: "GFLOPs × views",
  gflops_classes: "GFLOPs of the classes", ece: "ECE", nll: "NLL", brier: "Brier score", base_novel_auroc: "AUROC base / novel",
  published: "published %", published_source: "source", published_practice: "its practice", practice: "known practice", config_digests: "configs", git_commits: "commits",
  params_m: "params (M)", contradicted_by: "contradicted by", value: "value %", over: "over",
};
const MAIN = [
  "rank", "protocol", "dataset", "shots", "method", "options", "top1", "top5", "map", "base", "novel", "hm", "half_top1", "published",
  "difference", "order_score", "time_score", "runs", "coverage", "upper_bound", "backbone", "views", "frames", "trainable_params", "device_hours",
  "gflops_video", "ece", "base_novel_auroc",
  "lists", "trained_on",
];
const PUBLISHED = [
  "method", "protocol", "dataset", "shots", "metric", "value", "std", "backbone", "origin", "source", "contradicted_by",
  "frames", "views", "selection", "over", "params_m", "practice", "note",
];
const WIDE = new Set(["published_source", "published_practice", "practice", "source", "contradicted_by", "note", "deviations", "options"]);
const SCORES = new Set(["top1", "top5", "mean_per_class", "map", "base", "novel", "hm", "half_top1", "upper_bound", "published"]);
const SPREAD = new Set(["top1", "base", "novel", "half_top1"]);

const missing = (value) => value === null || value === undefined || value === "";
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

function shown(column, value) {
  if (missing(value)) return "";
  if (SCORES.has(column) || column === "trainable_percent") return value.toFixed(2);
  if (column === "value") return value.toFixed(Math.max(1, (String(value).split(".")[1] ?? "").length));
  if (column === "difference" || column === "order_score" || column === "time_score") return (value > 0 ? "+" : "") + value.toFixed(2);
  if (column === "trainable_params") return compact.format(value);
  return typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 4 }) : String(value);
}

// Sortable, filterable tables --------------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function order(left, right) {
  const number = (value) => (value === "all" ? Infinity : value);
  const [a, b] = [number(left), number(right)];
  return typeof a === "number" && typeof b === "number" ? (a < b ? -1 : a > b ? 1 : 0) : String(a).localeCompare(String(b));
}

class SortableTable {
  constructor(table, count, decorate) {
    Object.assign(this, { table, count, decorate, column: null, descending: false, columns: [], rows: [] });
  }

  show(columns, rows, total) {
    Object.assign(this, { columns, rows, total });
    this.draw();
  }

  sortBy(column) {
    const numeric = this.rows.some((row) => typeof row[column] === "number");
    if (this.column !== column) [this.column, this.descending] = [column, numeric && column !== "rank"];
    else if (this.descending === (numeric && column !== "rank")) this.descending = !this.descending;
    else this.column = null; // the third click brings the first order back
    this.draw();
    this.table.querySelector(`th[data-column="${column}"] button`).focus();
  }

  sorted() {
    const { column } = this;
    if (column === null) return this.rows;
    const sign = this.descending ? -1 : 1;
    return [...this.rows].sort((a, b) =>
      missing(a[column]) || missing(b[column])
        ? missing(a[column]) - missing(b[column])
        : sign * order(a[column], b[column]));
  }

  draw() {
    const numeric = new Set(this.columns.filter((column) => this.rows.some((row) => typeof row[column] === "number")));
    const head = element("tr");
    for (const column of this.columns) {
      const button = element("button", { type: "button" }, LABELS[column] ?? column.replaceAll("_", " "));
      button.addEventListener("click", () => this.sortBy(column));
      const sort = this.column !== column ? "none" : this.descending ? "descending" : "ascending";
      head.append(element("th", { scope: "col", "data-column": column, "aria-sort": sort, class: numeric.has(column) ? "number" : "" }, button));
    }
    const body = element("tbody");
    let before = null;
    for (const row of this.sorted()) {
      const line = element("tr");
      if (this.column === null && before !== null && row.comparison !== before.comparison) line.className = "first";
      for (const column of this.columns) {
        const cell = element("td", {}, shown(column, row[column]));
        cell.classList.toggle("number", numeric.has(column));
        cell.classList.toggle("wide", WIDE.has(column) && String(row[column] ?? "").length > 30);
        this.decorate?.(cell, column, row);
        line.append(cell);
      }
      body.append(line);
      before = row;
    }
    this.table.replaceChildren(element("thead", {}, head), body);
    this.count.textContent = `${this.rows.length} of ${this.total} rows`;
  }
}

function decorate(cell, column, row) {
  if (SPREAD.has(column) && !missing(row[column]) && !missing(row[`${column}_std`]))
    cell.append(element("span", { class: "spread" }, ` ± ${row[`${column}_std`].toFixed(2)}`));
  if (column === "difference" && row.difference) cell.classList.add(row.difference > 0 ? "up" : "down");
  if (column === "coverage" && row.coverage < 1) cell.classList.add("warn");
  if (row.rank === 1 && column === (missing(row.hm) ? (missing(row.map) ? "top1" : "map") : "hm")) cell.classList.add("best");
  if (column === "published") cell.title = [row.published_source, row.published_practice].filter((text) => text).join("; ");
  if (column === "trainable_params" && !missing(row[column])) cell.title = row[column].toLocaleString("en");
}

function fill(select, rows, column) {
  const chosen = select.value;
  const values = [...new Set(rows.map((row) => row[column]))].sort(order);
  select.replaceChildren(element("option", { value: "" }, "all"), ...values.map((value) => element("option", { value }, value)));
  select.value = values.includes(chosen) ? chosen : "";
}

function filtered(rows, prefix) {
  const words = byId(`${prefix}search`).value.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) =>
    ["protocol", "dataset", "method"].every((key) => !byId(prefix + key).value || row[key] === byId(prefix + key).value) &&
    words.every((word) => row.text.includes(word)));
}

function prepare(rows, prefix, update) {
  for (const row of rows) row.text = Object.values(row).filter((value) => !missing(value)).join(" ").toLowerCase();
  for (const key of ["protocol", "dataset", "method"]) {
    fill(byId(prefix + key), rows, key);
    byId(prefix + key).addEventListener("change", update);
  }
  byId(`${prefix}search`).addEventListener("input", update);
}

// Charts -----------------------------------------------------------------------------------------------------------

const WIDTH = 340, HEIGHT = 220, LEFT = 46, RIGHT = 14, TOP = 12, BOTTOM = 44;
const CHARTS = [
  { title: "Accuracy and trainable parameters", column: "trainable_params", axis: "trainable parameters", log: true },
  { title: "Accuracy and shots", column: "shots", axis: "training videos a class", ordinal: true },
  { title: "Accuracy and training cost", column: "device_hours", axis: "hours × devices", log: true },
  { title: "Accuracy and cost of a video", column: "gflops_video", axis: "GFLOPs × views", log: true },
  { title: "Accuracy and speed of the test", column: "clips_per_second", axis: "clips a second", log: true },
];
const methods = [...new Set(data.rows.map((row) => row.method))].sort();
const color = (method) => `var(--c${methods.indexOf(method) % 8})`;
// With more methods than colours, the next ones are squares, then diamonds.
const shape = (method) => ["circle", "square", "diamond"][Math.floor(methods.indexOf(method) / 8) % 3];

function marker(method, x, y, attributes) {
  const common = { fill: color(method), ...attributes };
  if (shape(method) === "circle") return svg("circle", { cx: x, cy: y, r: 5, ...common });
  const turned = shape(method) === "diamond" ? { transform: `rotate(45 ${x} ${y})` } : {};
  return svg("rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9, ...turned, ...common });
}

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function niceTicks(low, high, number) {
  const raw = (high - low) / number;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + 1e-9; tick += step) ticks.push(+tick.toPrecision(6));
  return ticks;
}

function horizontal(chart, values) {
  const span = WIDTH - LEFT - RIGHT;
  if (chart.ordinal) {
    const ticks = [...new Set(values)].sort(order);
    return { ticks, place: (value) => LEFT + (span * (ticks.indexOf(value) + 0.5)) / ticks.length };
  }
  // Nothing trains, nothing is shown at the left end: a logarithm has no zero.
  const positive = values.filter((value) => value > 0);
  if (!positive.length) return { ticks: [0], place: () => LEFT + span / 2 };
  const zero = positive.length < values.length ? 34 : 0;
  let [low, high] = [Math.min(...positive), Math.max(...positive)].map(Math.log10);
  const padding = Math.max(0.15, 0.08 * (high - low));
  [low, high] = [low - padding, high + padding];
  const place = (value) => (value > 0 ? LEFT + zero + ((span - zero) * (Math.log10(value) - low)) / (high - low) : LEFT + zero / 2);
  const ticks = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++)
    for (const factor of high - low > 2.5 ? [1] : high - low > 1 ? [1, 3] : [1, 2, 3, 5])
      if (Math.log10(factor) + power >= low && Math.log10(factor) + power <= high) ticks.push(factor * 10 ** power);
  return { ticks: zero ? [0, ...ticks.filter((tick) => place(tick) > LEFT + zero / 2 + 30)] : ticks, place };
}

function drawChart(chart, rows) {
  const panel = element("div", { class: "chart" }, element("h3", {}, chart.title));
  const points = rows.filter((row) => !missing(row.score) && !missing(row[chart.column]));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": chart.title });
  panel.append(picture);
  if (!points.length) {
    picture.append(svg("text", { x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle", class: "none" }, "not recorded for these rows"));
    return panel;
  }
  const scores = points.map((row) => row.score);
  const margin = Math.max(2, 0.12 * (Math.max(...scores) - Math.min(...scores)));
  const [low, high] = [Math.max(0, Math.min(...scores) - margin), Math.min(100, Math.max(...scores) + margin)];
  const bottom = HEIGHT - BOTTOM;
  const y = (value) => bottom - ((bottom - TOP) * (value - low)) / (high - low);
  for (const tick of niceTicks(low, high, 5))
    picture.append(
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }),
      svg("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick)));
  const { ticks, place } = horizontal(chart, points.map((row) => row[chart.column]));
  picture.append(svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: bottom, y2: bottom }));
  for (const tick of ticks)
    picture.append(
      svg("line", { class: "axis", x1: place(tick), x2: place(tick), y1: bottom, y2: bottom + 4 }),
      svg("text", { x: place(tick), y: bottom + 16, "text-anchor": "middle" }, typeof tick === "number" ? compact.format(tick) : tick));
  picture.append(
    svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, chart.axis),
    svg("text", { x: 0, y: 0, transform: `translate(10 ${(TOP + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "accuracy %"));
  if (chart.ordinal) {
    const lines = new Map(points.map((row) => [lineOf(row), []]));
    for (const row of points) lines.get(lineOf(row)).push(row);
    for (const members of [...lines.values()].filter((found) => found.length > 1)) {
      const path = members.sort((a, b) => order(a.shots, b.shots)).map((row) => `${place(row.shots)},${y(row.score)}`);
      picture.append(svg("polyline", { points: path.join(" "), fill: "none", stroke: color(members[0].method), "stroke-width": 1.5, opacity: 0.6 }));
    }
  }
  for (const row of points) {
    const label = [
      `${row.method}, ${row.backbone}`, `${row.score.toFixed(2)} %, ${row.shots} shots, ${row.views}`,
      `${LABELS[chart.column] ?? chart.column}: ${shown(chart.column, row[chart.column])}`, row.deviations, row.options,
    ].filter(Boolean).join("\n");
    const dot = marker(row.method, place(row[chart.column]), y(row.score), { tabindex: 0, "aria-label": label });
    for (const [on, off] of [["mouseenter", "mouseleave"], ["focus", "blur"]]) {
      dot.addEventListener(on, () => showTip(dot, label));
      dot.addEventListener(off, () => (byId("tip").hidden = true));
    }
    picture.append(dot);
  }
  return panel;
}

const lineOf = (row) => JSON.stringify([row.method, row.backbone, row.lists, row.views, row.frames, row.selection, row.deviations, row.options]);

function showTip(dot, text) {
  const tip = byId("tip"), box = dot.getBoundingClientRect();
  tip.textContent = text;
  tip.hidden = false;
  tip.style.left = `${Math.min(box.right + 8, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.max(8, box.top - tip.offsetHeight - 6)}px`;
}

const scope = element("select", { id: "scope", "aria-label": "what the charts show" });
const scopeOf = (row) => `${row.protocol} on ${row.dataset}`;
scope.addEventListener("change", () => drawCharts(filtered(data.rows, "")));

function drawCharts(rows) {
  // Accuracies of different datasets or protocols do not belong in one picture.
  const sizes = new Map();
  for (const row of rows) sizes.set(scopeOf(row), (sizes.get(scopeOf(row)) ?? 0) + 1);
  const chosen = scope.value, scopes = [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a) || order(a, b));
  scope.replaceChildren(...scopes.map((name) => element("option", { value: name }, name)));
  scope.value = scopes.includes(chosen) ? chosen : scopes[0] ?? "";
  const members = rows.filter((row) => scopeOf(row) === scope.value);
  const legend = element("div", { class: "legend" });
  for (const method of methods.filter((name) => members.some((row) => row.method === name)))
    legend.append(element("span", {}, element("i", { class: shape(method), style: `background: ${color(method)}` }), method));
  byId("charts").replaceChildren(
    element("div", { class: "head" }, element("label", { class: "muted" }, "Charts: ", scope), legend),
    ...CHARTS.filter((chart) => data.rows.some((row) => !missing(row[chart.column]))).map((chart) => drawChart(chart, members)));
}

// The page ---------------------------------------------------------------------------------------------------------

const board = new SortableTable(byId("rows"), byId("rows-count"), decorate);
const literature = new SortableTable(byId("published"), byId("published-count"));

function updateBoard() {
  const rows = filtered(data.rows, "");
  const columns = byId("all-columns").checked
    ? data.columns.filter((column) => !column.endsWith("_std"))
    : MAIN.filter((column) => data.rows.some((row) => !missing(row[column])));
  board.show(columns, rows, data.rows.length);
  drawCharts(rows);
}

function updateLiterature() {
  const rows = filtered(data.published, "p-").filter((row) => !byId("p-conflicts").checked || row.contradicted_by);
  literature.show(PUBLISHED, rows, data.published.length);
}

const dark = () => document.documentElement.dataset.theme
  ? document.documentElement.dataset.theme === "dark"
  : matchMedia("(prefers-color-scheme: dark)").matches;
const nameTheme = () => (byId("theme").textContent = dark() ? "Light" : "Dark");
byId("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  nameTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
nameTheme();

const comparisons = new Set(data.rows.map((row) => row.comparison)).size;
byId("summary").textContent = `${data.rows.length} rows in ${comparisons} comparisons, vlbench ${data.version}`;
byId("all-columns").addEventListener("change", updateBoard);
byId("p-conflicts").addEventListener("change", updateLiterature);
prepare(data.rows, "", updateBoard);
prepare(data.published, "p-", updateLiterature);
updateBoard();
updateLiterature();
