// The form of a new key: a preset fills in its fields, and keeps whatever else has been typed.
"use strict";

let filled = {};

function fill(link) {
  const field = (name) => document.querySelector(`#content form [name="${name}"]`);
  // What another preset has filled in, and nobody has changed since, does not belong to this one.
  for (const [name, value] of Object.entries(filled)) if (field(name)?.value === value) field(name).value = "";
  filled = JSON.parse(link.dataset.values);
  for (const [name, value] of Object.entries(filled)) if (field(name)) field(name).value = value;
  document.getElementById("filled").textContent = `Filled in: ${link.dataset.filled}.`;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-values]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  fill(link);
});
