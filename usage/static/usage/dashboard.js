// Draws the charts of a page. Keeps a dashboard up to date: asks for its parts and charts again while the page is seen.
"use strict";

(() => {
  const figures = [...document.querySelectorAll("[data-chart]")];
  if (!figures.length) return;
  let charts = JSON.parse(document.getElementById("charts").textContent);

  const draw = () => figures.forEach((figure) => drawChart(figure, charts));
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) > 1) { width = entry.contentRect.width; draw(); }
  }).observe(figures[0].parentElement);

  document.addEventListener("cp-zone", draw);

  const live = document.getElementById("live");
  if (!live) return; // a page of past days
  const pause = document.getElementById("pause");
  let timer = 0;

  const refresh = async () => {
    try {
      const answer = await fetch(live.dataset.url, { headers: { Accept: "application/json" } });
      if (answer.status === 401) return location.reload(); // a key's own page asks for the key again
      if (answer.redirected || !answer.ok) throw new Error(answer.statusText);
      const fresh = await answer.json();
      for (const [name, html] of Object.entries(fresh.fragments)) {
        const part = document.getElementById(`part-${name}`);
        if (!part.contains(document.activeElement) || document.activeElement === document.body) part.innerHTML = html;
      }
      const isSelecting = document.querySelector("[data-selecting]"); // bars do not move under a drag
      if (!isSelecting && JSON.stringify(fresh.charts) !== JSON.stringify(charts)) {
        charts = fresh.charts;
        draw();
      }
      live.querySelector("time").dateTime = fresh.at;
      document.dispatchEvent(new Event("cp-fresh"));
      live.classList.remove("stale");
    } catch {
      live.classList.add("stale"); // the server is away, or the session has ended: what is shown is old
    }
  };

  const schedule = () => {
    clearInterval(timer);
    const paused = pause.getAttribute("aria-pressed") === "true";
    if (!paused && !document.hidden) timer = setInterval(refresh, 1000 * live.dataset.seconds);
  };

  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", paused);
    pause.textContent = paused ? "Resume" : "Pause";
    schedule();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); schedule(); });
  schedule();
})();
