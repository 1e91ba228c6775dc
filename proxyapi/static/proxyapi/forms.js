// Forms of keys, teams and alert rules: a filter for the list of models, and the meaning of the chosen kind of rule.
"use strict";

function addFilter(list) {
  const input = Object.assign(document.createElement("input"), { type: "search", placeholder: "Filter models" });
  input.setAttribute("aria-label", "Filter models");
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const item of list.children) item.hidden = !item.textContent.toLowerCase().includes(wanted);
  });
  // Enter would send the form.
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
  list.before(input);
}

function showMeaning(kind, meanings) {
  for (const meaning of meanings) meaning.hidden = meaning.dataset.kind !== kind.value;
}

document.addEventListener("DOMContentLoaded", () => {
  for (const list of document.querySelectorAll(".cp-models > ul")) addFilter(list);
  const kind = document.querySelector('#content form [name="kind"]');
  const meanings = document.querySelectorAll("[data-kind]");
  if (!kind || !meanings.length) return;
  showMeaning(kind, meanings);
  kind.addEventListener("change", () => showMeaning(kind, meanings));
});
