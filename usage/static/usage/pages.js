// What several pages need: copying text, forms that send themselves when a choice is made, names to choose from, rows
// that lead to a page, and keys for them.
"use strict";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  button.dataset.label ??= button.textContent;
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // Without TLS there is no clipboard: select the text, and copy what is selected if the browser still can.
    getSelection().selectAllChildren(source);
    if (!document.execCommand("copy")) said = "Selected";
  }
  button.textContent = said;
  const status = document.getElementById("copied"); // what a screen reader says
  if (status) status.textContent = said;
  setTimeout(() => { button.textContent = button.dataset.label; }, 1500);
});

// A choice that keys have moved is sent by Enter: with each arrow key, the page would be another one, without the focus.
let movedByKeys = null;
document.addEventListener("keydown", (event) => {
  if (!event.target.matches("form[data-auto] select")) return;
  movedByKeys = event.target;
  if (event.key === "Enter") setTimeout(() => event.target.form.requestSubmit()); // an open list takes its choice first
});
document.addEventListener("pointerdown", () => { movedByKeys = null; });
document.addEventListener("change", (event) => {
  if (!event.target.matches("form[data-auto] :is(select, [data-names])") || event.target === movedByKeys) return;
  event.target.form.requestSubmit();
});

// A field for one of very many names offers some of those that contain what has been typed.
async function suggestNames(field) {
  const text = field.value;
  const answer = await fetch(`${field.dataset.names}&q=${encodeURIComponent(text)}`).catch(() => null);
  if (!answer?.ok || field.value !== text) return;
  const { names } = await answer.json();
  field.list.replaceChildren(...names.map((name) => new Option("", name || "(none)")));
}
for (const kind of ["focusin", "input"]) {
  document.addEventListener(kind, (event) => {
    if (event.target.matches("[data-names]")) suggestNames(event.target);
  });
}

// A form does not send fields that are empty: addresses stay short.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "get") return;
  for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true;
});
addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("form [name]:disabled")) field.disabled = false;
  limitOrder();
});

// Calls that are found by words of a prompt are listed newest first, and the choice of an order says so.
function limitOrder() {
  const order = document.querySelector("select[data-with-text]");
  if (!order) return;
  order.disabled = Boolean(order.form.elements.text?.value.trim());
  if (order.disabled) order.value = "";
  order.options[0].text = order.disabled ? order.dataset.withText : order.dataset.order;
}
document.addEventListener("input", (event) => { if (event.target.name === "text") limitOrder(); });

// A row of a list is as good as the link in it; text in it can still be selected. What was said in a call is no such
// row: its links are those of strangers.
const ROW = "[data-rows] > tbody > tr:not([data-text])";
document.addEventListener("click", (event) => {
  const row = event.target.closest(ROW);
  const link = (row?.matches("[data-of-row-above]") ? row.previousElementSibling : row)?.querySelector("a[href]");
  if (!link || event.target.closest("a, button, input, summary") || String(getSelection())) return;
  if (event.ctrlKey || event.metaKey) open(link.href, "_blank", "noopener");
  else location.assign(link.href);
});

// J and K go on and back: to the next call on the page of one, to the next row in a list.
document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey || event.altKey || !"jk".includes(key)) return;
  if (event.target.closest("input, select, textarea, [contenteditable]")) return;
  const link = document.querySelector(`a[data-key="${key}"]`);
  if (link) location.assign(link.href);
  const links = [...document.querySelectorAll(ROW)].map((row) => row.querySelector("a[href]")).filter(Boolean);
  if (!links.length) return;
  const at = links.indexOf(document.activeElement) + (key === "j" ? 1 : -1);
  links[Math.min(links.length - 1, Math.max(0, at))].focus();
});
