"use strict";
// The page is whole without this script, which adds a cursor to the matrix, its lists and a search.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const size = data.classes.length;
const rows = data.rows.map((flat) => {
  const row = new Map();
  for (let k = 0; k < flat.length; k += 2) row.set(flat[k], flat[k + 1]);
  return row;
});
const totals = rows.map((row) => [...row.values()].reduce((sum, count) => sum + count, 0));
const anyLost = rows.some((row) => row.has(size));
const [map, box, picture] = [byId("map"), byId("box"), byId("picture")];
const LISTED = 8;
let at;
let cell = data.cells.first;

const nameOf = (label) => (label === size ? "could not be read" : data.classes[label]);
const count = (row, column) => rows[row].get(column) ?? 0;
// The unreadable videos are a column apart.
const drawn = (column) => (column === size ? size + 1 : column);

function fill(select, labels) {
  const options = labels.map((label) => {
    const option = document.createElement("option");
    option.value = label;
    option.textContent = label === size ? nameOf(label) : `${nameOf(label)} (${label + 1})`;
    return option;
  });
  select.replaceChildren(...options);
}

function list(node, title, entries) {
  node.querySelector("h3").textContent = title;
  const items = entries.slice(0, LISTED).map(([label, n]) => {
    const item = document.createElement("li");
    item.textContent = `${n} ${label}`;
    return item;
  });
  if (entries.length > LISTED) {
    const item = document.createElement("li");
    item.textContent = `and ${entries.length - LISTED} more classes`;
    items.push(item);
  }
  node.querySelector("ol").replaceChildren(...items);
}

const byCount = (pairs) => pairs.filter(([, n]) => n).sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([label, n]) => [nameOf(label), n]);

function sentence(row, column) {
  const outcome = column === size ? "could not be read" : `predicted ${nameOf(column)}`;
  return `true ${nameOf(row)} → ${outcome}: ${count(row, column)} of ${totals[row]}`;
}

function reveal() {
  // What is before the picture stays in view and covers that much of it. A cell out of sight comes to the middle.
  const left = map.querySelector(".rows").offsetWidth;
  const top = map.querySelector(".columns").offsetHeight;
  const [x, y] = [drawn(at.column) * cell, at.row * cell];
  const [width, height] = [box.clientWidth - left, box.clientHeight - top];
  if (x < box.scrollLeft || x + cell > box.scrollLeft + width) box.scrollLeft = x - width / 2;
  if (y < box.scrollTop || y + cell > box.scrollTop + height) box.scrollTop = y - height / 2;
}

function select(row, column) {
  at = { row, column };
  map.style.setProperty("--at-row", row);
  map.style.setProperty("--at-column", drawn(column));
  byId("true").value = row;
  byId("given").value = column;
  byId("said").textContent = sentence(row, column);
  const [given, taken] = byId("details").children;
  list(given, `Videos of ${nameOf(row)} were given to`, byCount([...rows[row]]));
  taken.hidden = column === size;
  if (column !== size) list(taken, `Given to ${nameOf(column)} were videos of`, byCount(rows.map((each, label) => [label, each.get(column) ?? 0])));
}

function resize(width) {
  cell = width;
  map.style.setProperty("--cell", `${cell}px`);
  const { steps, number } = data.cells;
  const step = steps.find((each) => each * cell >= number) ?? steps.at(-1);
  const columns = map.querySelectorAll(".columns span:not(.lost)");
  map.querySelectorAll(".rows li").forEach((item, k) => {
    const shown = k === 0 || (k + 1) % step === 0;
    item.classList.toggle("tick", shown);
    columns[k].hidden = !shown;
  });
  map.className = cell >= data.cells.named ? "named" : "small";
  select(at.row, at.column);
  reveal();
}

function mostCommonError(row) {
  const wrong = [...rows[row]].filter(([column]) => column !== row && column !== size).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  return wrong.length ? wrong[0][0] : row;
}

const last = anyLost ? size : size - 1;
const between = (value, high) => Math.min(Math.max(value, 0), high);
const MOVES = {
  ArrowUp: ({ row, column }) => [row - 1, column],
  ArrowDown: ({ row, column }) => [row + 1, column],
  ArrowLeft: ({ row, column }) => [row, column - 1],
  ArrowRight: ({ row, column }) => [row, column + 1],
  PageUp: ({ row, column }) => [row - 10, column],
  PageDown: ({ row, column }) => [row + 10, column],
  Home: ({ row }) => [row, 0],
  End: ({ row }) => [row, last],
  Enter: ({ row }) => [row, mostCommonError(row)],
};

picture.addEventListener("keydown", (event) => {
  if (!(event.key in MOVES) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const [row, column] = MOVES[event.key](at);
  select(between(row, size - 1), between(column, last));
  reveal();
});

function pointed(event) {
  const inside = picture.getBoundingClientRect();
  const row = Math.floor((event.clientY - inside.top) / cell);
  const x = Math.floor((event.clientX - inside.left) / cell);
  const column = x > size ? size : x;
  return row < 0 || row >= size || x < 0 || x === size || column > last ? null : [row, column];
}
picture.addEventListener("click", (event) => {
  const cellAt = pointed(event);
  if (cellAt) select(...cellAt);
});
picture.addEventListener("pointermove", (event) => {
  const cellAt = pointed(event);
  picture.title = cellAt ? sentence(...cellAt) : "";
});

const alphabetical = [...rows.keys()].sort((a, b) => nameOf(a).localeCompare(nameOf(b)) || a - b);
fill(byId("true"), alphabetical);
fill(byId("given"), anyLost ? [...alphabetical, size] : alphabetical);
byId("true").addEventListener("change", (event) => { select(Number(event.target.value), at.column); reveal(); });
byId("given").addEventListener("change", (event) => { select(at.row, Number(event.target.value)); reveal(); });
for (const width of data.cells.all) {
  const option = document.createElement("option");
  option.value = width;
  option.textContent = `${width} px${width >= data.cells.named ? ", with names" : ""}`;
  byId("width").append(option);
}
byId("width").value = cell;
byId("width").addEventListener("change", (event) => resize(Number(event.target.value)));

for (const button of document.querySelectorAll("button[data-row]")) {
  button.addEventListener("click", () => {
    select(Number(button.dataset.row), Number(button.dataset.column));
    reveal();
    picture.focus({ preventScroll: true });
    byId("matrix").scrollIntoView();
  });
}

byId("search").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const row of byId("classes").tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});

for (const node of document.querySelectorAll(".scripted")) node.hidden = false;
picture.tabIndex = 0;
picture.setAttribute("role", "application");
picture.setAttribute("aria-label", "Confusion matrix; the arrow keys move from cell to cell");
picture.setAttribute("aria-describedby", "said");
box.removeAttribute("tabindex");
// It begins at the most frequent confusion, or else at the first class.
const first = document.querySelector("button[data-row]");
select(first ? Number(first.dataset.row) : 0, first ? Number(first.dataset.column) : 0);
for (const id of ["row", "column", "cursor"]) byId(id).hidden = false;
reveal();
