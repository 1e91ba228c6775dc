// The form of a new key: a preset fills in its fields, and keeps whatever else has been typed.
"use strict";

const FILLED_KEY = "filled in by a preset"; // of the tab: a form that is shown again with errors still knows it
let filled = {};

function keyField(name) {
  return document.querySelector(`#content form [name="${name}"]`);
}

function remember(values) {
  filled = values;
  try { sessionStorage.setItem(FILLED_KEY, JSON.stringify(values)); } catch { /* it is not kept */ }
}

function remembered() {
  try { return JSON.parse(sessionStorage.getItem(FILLED_KEY)) ?? {}; } catch { return {}; }
}

// The values that the server has filled in, if the address of the page names a preset.
function filledByServer() {
  const preset = (search) => new URLSearchParams(search).get("preset");
  const links = [...document.querySelectorAll("a[data-values]")];
  const link = links.find((one) => preset(one.search) === preset(location.search));
  const names = link ? Object.keys(JSON.parse(link.dataset.values)).filter(keyField) : [];
  return Object.fromEntries(names.map((name) => [name, keyField(name).value]));
}

function fill(link) {
  // What another preset has filled in, and nobody has changed since, does not belong to this one.
  for (const [name, value] of Object.entries(filled)) if (keyField(name)?.value === value) keyField(name).value = "";
  const values = JSON.parse(link.dataset.values);
  for (const [name, value] of Object.entries(values)) if (keyField(name)) keyField(name).value = value;
  remember(values);
  document.getElementById("filled").textContent = `Filled in: ${link.dataset.filled}.`;
}

document.addEventListener("DOMContentLoaded", () => {
  if (!document.querySelector("a[data-values]")) return;
  if (document.querySelector(".errornote")) filled = remembered();
  else remember(filledByServer());
});

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-values]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  fill(link);
});
