// What several pages need: copying text, forms that send themselves when a choice is made, and names to choose from.
"use strict";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy).textContent;
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Without TLS there is no clipboard: select the text instead.
    getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = said; }, 1500);
});

document.addEventListener("change", (event) => {
  if (event.target.matches("form[data-auto] :is(select, [data-names])")) event.target.form.requestSubmit();
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
});
