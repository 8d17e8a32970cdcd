"use strict";

// Tables: each header becomes a button that sorts by its column; missing values stay last.
function valueOf(row, column, numeric) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (!numeric) return text;
  const value = parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(value) ? null : value;
}

function compare(a, b, numeric) {
  return numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
}

function sortBy(table, header) {
  const column = header.cellIndex;
  const numeric = header.classList.contains("number");
  const descending = header.getAttribute("aria-sort") === "ascending";
  const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column, numeric), row]);
  const known = rows.filter(([value]) => value !== null);
  known.sort(([a], [b]) => (descending ? -1 : 1) * compare(a, b, numeric));
  const missing = rows.filter(([value]) => value === null);
  table.tBodies[0].append(...[...known, ...missing].map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const header of table.tHead.rows[0].cells) {
    if (!header.textContent.trim()) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sortBy(table, header));
    header.append(button);
  }
}

// Folds: all at once, those that a link leads to, and all of them on paper.
const folds = [...document.querySelectorAll("details")];
for (const button of document.querySelectorAll("[data-open]")) {
  button.parentElement.hidden = false;
  button.addEventListener("click", () => {
    for (const fold of folds) fold.open = button.dataset.open === "true";
  });
}

function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let fold = target.querySelector("details"); fold; fold = fold.parentElement.closest("details")) {
    fold.open = true;
  }
  target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
openTarget();

let closed = [];
addEventListener("beforeprint", () => {
  closed = folds.filter((fold) => !fold.open);
  for (const fold of closed) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of closed) fold.open = false;
});
