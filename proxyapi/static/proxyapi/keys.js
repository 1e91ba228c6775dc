// The copy buttons beside a key that is shown once: data-copy names the element whose text is copied.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    const copied = (await copy(source.textContent)) || copySelected(source);
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    document.getElementById("copied").textContent = copied ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 3000);
  });
}

// Browsers have a clipboard on https and on localhost only.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function copySelected(source) {
  getSelection().selectAllChildren(source);
  return document.execCommand("copy");
}
