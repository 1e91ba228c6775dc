// What the admin's theme lacks, on all pages of the admin.
"use strict";

// Django's choosers of groups and permissions give their explanations a name, which only an image may have.
new MutationObserver(() => {
  for (const one of document.querySelectorAll("span.help-tooltip[aria-label]:not([role])")) one.setAttribute("role", "img");
}).observe(document, { childList: true, subtree: true });
