"use strict";

const list = document.getElementById("scans"), by = document.getElementById("by");
const up = document.getElementById("up"), named = document.getElementById("named");
const save = document.getElementById("save"), chosen = document.getElementById("chosen");
const names = document.getElementById("names"), keys = document.getElementById("keys");
const scans = [...list.children];
let current = null;

// Order and search.
function arrange() {
  const key = by.value, text = key === "scan";
  const value = s => text ? s.dataset.scan : s.dataset[key] === "" ? -Infinity : +s.dataset[key];
  const order = (a, b) => value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0;
  scans.sort(order);
  if (!(up.checked || text)) scans.reverse();
  for (const s of scans) s.hidden = !s.dataset.scan.includes(named.value);
  list.append(...scans);
}
for (const control of [by, up, named]) control.addEventListener("input", arrange);

// The list of scans to exclude: the content of exclude.txt.
const picked = () => scans.filter(s => s.querySelector(".pick").checked).map(s => s.dataset.scan);
function showList() {
  for (const s of scans) s.classList.toggle("out", s.querySelector(".pick").checked);
  const out = picked();
  names.value = out.join("\n");
  names.rows = Math.min(8, Math.max(1, out.length));
  chosen.hidden = save.disabled = !out.length;
  save.textContent = `Save exclude.txt (${out.length})`;
}
list.addEventListener("change", showList);

function copyList() {
  if (!picked().length) return;
  names.select();
  document.execCommand("copy");  // as a local file, a page may have no other clipboard
  names.blur();
  document.getElementById("copied").textContent = "copied";
}
document.getElementById("copy").addEventListener("click", copyList);

save.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([picked().join("\n") + "\n"], {type: "text/plain"}));
  link.download = "exclude.txt";
  link.click();
});

// Keys.
function go(step) {
  const shown = scans.filter(s => !s.hidden);
  if (!shown.length) return;
  const place = shown.indexOf(current);
  const next = place < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, place + step));
  current?.removeAttribute("aria-current");
  current = shown[next];
  current.setAttribute("aria-current", "true");
  current.scrollIntoView({block: "center"});
}

function mark() {
  if (!current || current.hidden) return;
  const box = current.querySelector(".pick");
  box.checked = !box.checked;
  document.getElementById("copied").textContent = "";
  showList();
}

const ACTIONS = {
  j: () => go(1), ArrowDown: () => go(1), k: () => go(-1), ArrowUp: () => go(-1), x: mark, c: copyList,
  "?": () => { keys.open ? keys.close() : keys.showModal(); },
};
addEventListener("keydown", event => {
  const typing = event.target.matches("input[type=search], select, textarea");
  if (typing && event.key === "Escape") event.target.blur();
  const action = ACTIONS[event.key];
  if (typing || !action || event.ctrlKey || event.altKey || event.metaKey) return;
  if (keys.open && event.key !== "?") return;
  event.preventDefault();
  action();
});
document.getElementById("help").addEventListener("click", () => keys.showModal());
