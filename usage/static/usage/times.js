// Shows times in the reader's time zone, or in UTC, as the reader chooses; the other one is in the tooltip. The server
// writes UTC, which stays without this script. The choice is kept in the browser.
"use strict";

const ZONE_KEY = "chatproxy.zone";
const ownZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const hasOwnZone = !["UTC", "Etc/UTC", "Etc/GMT"].includes(ownZone);

function isLocal() {
  try {
    return hasOwnZone && localStorage.getItem(ZONE_KEY) !== "utc";
  } catch {
    return hasOwnZone; // a browser that keeps nothing
  }
}

// A moment as the server writes it: 2026-11-30 13:07:42, in UTC or in the reader's zone.
function momentText(moment, local) {
  return (local ? new Date(moment.getTime() - 60000 * moment.getTimezoneOffset()) : moment).toISOString().replace("T", " ");
}

const PARTS = { minute: [0, 16], second: [0, 19], millisecond: [0, 23], clock: [11, 19] };

function showTimes() {
  const local = isLocal();
  for (const one of document.querySelectorAll("time[data-shown]")) {
    const moment = new Date(one.dateTime);
    const text = (inZone) => momentText(moment, inZone).slice(...PARTS[one.dataset.shown]);
    one.textContent = text(local);
    one.title = local ? `${text(false)} UTC` : `${text(true)} ${ownZone}`;
    if (!hasOwnZone) one.removeAttribute("title");
  }
  // What names the zone beside such times: "Time (UTC)" at the head of a column.
  for (const one of document.querySelectorAll("th, dt, .cp-zone-name")) {
    const walker = document.createTreeWalker(one, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (/\((UTC|local)\)/.test(node.data) && one.closest("table, dl, .cp-live, p, header")?.querySelector("time[data-shown]")) {
        node.data = node.data.replace(/\((UTC|local)\)/, local ? "(local)" : "(UTC)");
      }
    }
  }
  for (const button of document.querySelectorAll("[data-zone]")) {
    button.setAttribute("aria-pressed", (button.dataset.zone === "local") === local);
  }
}

function addSwitch() {
  const place = document.querySelector(".cp[data-zones]");
  if (!hasOwnZone || !place || document.querySelector("[data-zone]") || !document.querySelector("time[data-shown]")) return;
  const group = document.createElement("p");
  group.className = "cp-zones";
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Time zone");
  group.append("Times in ");
  for (const [name, label] of [["local", ownZone.replaceAll("_", " ")], ["utc", "UTC"]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.zone = name;
    button.textContent = label;
    group.append(button);
  }
  place.append(group);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-zone]");
  if (!button) return;
  try { localStorage.setItem(ZONE_KEY, button.dataset.zone); } catch { /* it is not kept */ }
  showTimes();
  document.dispatchEvent(new Event("cp-zone"));
});
document.addEventListener("cp-fresh", showTimes);
addSwitch();
showTimes();
