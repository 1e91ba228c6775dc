// Draws the dashboard's charts as SVG: stacked bars or lines, read by pattern and dash as well as by colour, by arrow
// keys as well as by pointer, and as a table. A time that is dragged over is shown alone, by the page itself.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 200, LEFT = 52, RIGHT = 8, TOP = 8, BOTTOM = 24;
const PATTERNS = ["", "M0 8 L8 0", "M4 0 V8", "M0 0 L8 8 M0 8 L8 0", "M0 4 H8", "M2 2 h1 v1 h-1 z M6 6 h1 v1 h-1 z", "M2 0 V8 M6 0 V8"];
const DASHES = ["", "6 3", "2 3", "9 3 2 3", "1 4"];
const SPACINGS = [60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 345600, 604800]; // of the labels, in seconds
const MINUTE = 60000; // in milliseconds, as all durations
const MINUTES = [0.5, 1, 2, 5, 10, 15, 30, 60, 120].map((times) => times * MINUTE); // between the marks of an axis
const SHORT = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
const NUMBER = new Intl.NumberFormat("en-US");

function element(name, attributes = {}, parent = null, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function html(name, parent, text = "", attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

function shown(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "ms") {
    if (value >= MINUTE) return `${Math.round((10 * value) / MINUTE) / 10} min`;
    if (value >= 1000) return `${Number((value / 1000).toPrecision(3))} s`;
    return `${Number(value.toPrecision(value < 10 ? 2 : 3))} ms`;
  }
  if (unit === "$") return value >= 1000 ? `$${short(value)}` : `$${value >= 1 || !value ? value.toFixed(2) : Number(value.toPrecision(2))}`;
  return value >= 100000 ? short(value) : NUMBER.format(Number(value.toFixed(2)));
}

function short(value) {
  for (const [size, unit] of SHORT) {
    if (value >= size) return `${Number((value / size).toPrecision(3))} ${unit}`;
  }
  return String(Number(value.toPrecision(3)));
}

// The top of the axis and its steps: 1, 2, 2.5 or 5 times a power of ten; of minutes, a number that a clock has.
function ticks(most, unit) {
  if (!(most > 0)) return [0, unit === "$" ? 0.01 : 1];
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((times) => times * power).find((size) => size >= rough);
  if (unit === "") step = Math.max(1, Math.ceil(step));
  if (unit === "ms" && most > 2 * MINUTE) step = MINUTES.find((size) => size >= rough) || 60 * MINUTE * Math.ceil(rough / (60 * MINUTE));
  const marks = [];
  for (let mark = 0; mark < most + step; mark += step) marks.push(mark);
  return marks;
}

// The size and the name of the unit in which all labels of an axis are written.
function axisUnit(most, unit) {
  if (unit === "ms") return most > 2 * MINUTE ? [MINUTE, " min"] : most >= 1000 ? [1000, " s"] : [1, " ms"];
  return SHORT.map(([size, name]) => [size, ` ${name}`]).find(([size]) => most >= 100000 && most >= size) || [1, ""];
}

// The marks of an axis, and their labels: all with the same unit and the same number of decimals.
function axis(most, unit) {
  const [size, name] = axisUnit(most, unit);
  const marks = ticks(most, unit), step = marks[1] / size;
  let decimals = 0;
  while (decimals < 12 && Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6) decimals++;
  if (unit === "$" && decimals) decimals = Math.max(2, decimals);
  const written = new Intl.NumberFormat("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  const sign = unit === "$" ? "$" : "";
  return { marks, labels: marks.map((mark) => `${sign}${mark ? written.format(mark / size) + name : "0"}`) };
}

// How wide the widest of some labels of an axis is, in pixels.
function widest(labels, place) {
  const svg = element("svg", { width: 0, height: 0 }, place);
  const widths = labels.map((label) => element("text", { class: "cp-tick" }, svg, label).getComputedTextLength());
  svg.remove();
  return Math.ceil(Math.max(...widths));
}

// Days are those of UTC; shorter bins have the time of the zone that the reader has chosen.
function isShownLocal(step) {
  return step < 86400 && isLocal();
}

function timeLabel(moment, step) {
  const text = momentText(moment, isShownLocal(step));
  if (step >= 86400) return text.slice(5, 10);
  return step >= 10800 ? text.slice(5, 16) : text.slice(11, 16);
}

function fullTime(moment, step) {
  return momentText(moment, isShownLocal(step)).slice(0, step >= 86400 ? 10 : 16);
}

// The part of the offset from UTC by which marks move, so that they stand at midnight of the zone, or near it.
function shift(moment, step) {
  return isShownLocal(step) ? Math.round((-60 * moment.getTimezoneOffset()) / step) * step : 0;
}

function drawChart(figure, charts) {
  const plot = figure.querySelector(".cp-plot");
  const { kind, unit, chart: name } = figure.dataset;
  const { times, step, start, end, [name]: series } = charts;
  const moments = times.map((time) => new Date(time));
  const stacked = kind === "bars";
  const sums = moments.map((_, bin) => series.reduce((sum, line) => sum + (line.values[bin] || 0), 0));
  const width = Math.max(260, plot.clientWidth);
  const most = stacked ? Math.max(0, ...sums) : Math.max(0, ...series.flatMap((line) => line.values.map((value) => value || 0)));
  const { marks, labels } = axis(most, unit);
  const left = Math.max(LEFT, widest(labels, plot) + 12); // so that the label of a small sum is not cut off
  const inner = width - left - RIGHT, tall = HEIGHT - TOP - BOTTOM;
  const top = marks[marks.length - 1];
  const y = (value) => TOP + tall * (1 - value / top);
  const bin = inner / Math.max(1, moments.length);
  const x = (number) => left + bin * number;

  const svg = element("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, "aria-hidden": "true" });
  const defs = element("defs", {}, svg);
  series.forEach((line, number) => {
    const look = (line.look ?? number) % PATTERNS.length;
    const pattern = element("pattern", { id: `${name}-${number}`, width: 8, height: 8, patternUnits: "userSpaceOnUse" }, defs);
    element("rect", { width: 8, height: 8, class: `cp-fill s${look}` }, pattern);
    if (PATTERNS[look]) element("path", { d: PATTERNS[look], class: "cp-hatch" }, pattern);
  });
  marks.forEach((mark, number) => {
    element("line", { x1: left, x2: width - RIGHT, y1: y(mark), y2: y(mark), class: mark ? "cp-grid" : "cp-axis" }, svg);
    element("text", { x: left - 8, y: y(mark) + 4, class: "cp-tick", "text-anchor": "end" }, svg, labels[number]);
  });
  const room = Math.max(2, Math.floor(inner / (step >= 10800 && step < 86400 ? 84 : 60)));
  const spacing = SPACINGS.find((seconds) => seconds >= step && (moments.length * step) / seconds <= room) || step * Math.ceil(moments.length / room);
  moments.forEach((moment, number) => {
    if ((moment.getTime() / 1000 + shift(moment, step)) % spacing) return;
    element("text", { x: x(number) + bin / 2, y: HEIGHT - 6, class: "cp-tick", "text-anchor": "middle" }, svg, timeLabel(moment, step));
  });

  if (stacked) {
    const gap = bin > 6 ? Math.min(4, bin * 0.2) : bin > 3 ? 0.5 : 0;
    moments.forEach((_, number) => {
      let base = 0;
      series.forEach((line, index) => {
        const value = line.values[number] || 0;
        if (!value) return;
        element("rect", {
          x: x(number) + gap / 2, width: Math.max(0.5, bin - gap), y: y(base + value), height: Math.max(0.5, y(base) - y(base + value)),
          fill: `url(#${name}-${index})`,
        }, svg);
        base += value;
      });
    });
  } else {
    series.forEach((line, index) => {
      let path = "", open = false;
      line.values.forEach((value, number) => {
        if (value === null) { open = false; return; }
        path += `${open ? "L" : "M"}${(x(number) + bin / 2).toFixed(1)} ${y(value).toFixed(1)}`;
        const alone = line.values[number - 1] == null && line.values[number + 1] == null;
        if (alone) element("circle", { cx: x(number) + bin / 2, cy: y(value), r: 2.5, class: `cp-point s${index}` }, svg);
        open = true;
      });
      element("path", { d: path || "M0 0", class: `cp-line s${index}`, "stroke-dasharray": DASHES[index % DASHES.length] }, svg);
    });
  }
  const cursor = element("rect", { y: TOP, height: tall, width: Math.max(1, bin), class: "cp-cursor", visibility: "hidden" }, svg);
  const selection = element("rect", { y: TOP, height: tall, class: "cp-selection", visibility: "hidden" }, svg);
  plot.replaceChildren(svg);
  if (!(most > 0)) html("p", plot, "Nothing in this time.", { class: "cp-nothing" });

  const readout = figure.querySelector(".cp-readout");
  const read = (number) => {
    figure.dataset.at = number;
    if (number < 0 || number >= moments.length) {
      cursor.setAttribute("visibility", "hidden");
      readout.textContent = "";
      return;
    }
    cursor.setAttribute("visibility", "visible");
    cursor.setAttribute("x", x(number));
    readout.textContent = told(number);
  };
  const told = (number) => {
    const parts = series.filter((line) => line.values[number]).map((line) => `${line.name} ${shown(line.values[number], unit)}`);
    const whole = stacked && parts.length > 1 ? [`all ${shown(sums[number], unit)}`] : [];
    return `${fullTime(moments[number], step)} · ${[...parts, ...whole].join(" · ") || "nothing"}`;
  };
  const select = (first, last) => {
    plot.toggleAttribute("data-selecting", first !== undefined);
    selection.setAttribute("visibility", first === undefined ? "hidden" : "visible");
    if (first === undefined) return read(-1);
    read(last);
    cursor.setAttribute("visibility", "hidden");
    selection.setAttribute("x", x(first));
    selection.setAttribute("width", Math.max(1, bin * (last - first + 1)));
    readout.textContent = toldOfBins(first, last);
  };
  // The first and the last bin may count only a part of their time.
  const period = (first, last) => [
    new Date(Math.max(moments[first], new Date(start))), new Date(Math.min(moments[last].getTime() + step * 1000, new Date(end))),
  ];
  const toldOfBins = (first, last) => {
    const [from, to] = period(first, last);
    return `${fullTime(from, step)} to ${fullTime(step >= 86400 ? new Date(to - 1) : to, step)}. Zooms in; Escape cancels.`;
  };
  reserveRoom(readout, [...moments.map((_, number) => told(number)), ...(moments.length ? [toldOfBins(0, 0)] : [])]);
  const day = (moment) => moment.toISOString().slice(0, 10);
  const minute = (moment) => moment.toISOString().slice(0, 16);
  listenToChart(plot, moments.length, {
    at: (event) => Math.floor((event.clientX - svg.getBoundingClientRect().left - left) / bin),
    here: () => Number(figure.dataset.at ?? -1),
    read,
    select,
    // What is under the pointer, or chosen by the arrow keys, leads to its calls; the cost of whole days to their usage.
    open: (number) => {
      const { calls, usage } = figure.dataset;
      const [from, to] = period(number, number);
      if (usage && step % 86400 === 0) location.assign(`${usage}&first=${day(from)}&last=${day(new Date(to - 1))}`);
      else if (calls) location.assign(`${calls}&from=${minute(from)}&to=${minute(to)}`);
    },
    zoom: (first, last) => {
      const [from, to] = period(first, last);
      const url = new URL(location.href);
      for (const name of ["range", "from", "to", "first", "last"]) url.searchParams.delete(name);
      const times = figure.dataset.zoom === "days"
        ? { first: day(from), last: day(new Date(to - 1)) }
        : { from: minute(from), to: minute(new Date(Math.ceil(to / 60000) * 60000)) };
      for (const [name, value] of Object.entries(times)) url.searchParams.set(name, value);
      url.hash = "";
      location.assign(url.href.replaceAll("%3A", ":"));
    },
  });

  const legend = figure.querySelector(".cp-legend");
  legend.replaceChildren();
  series.forEach((line, index) => {
    const item = html("li", legend);
    const swatch = element("svg", { width: 18, height: 10, "aria-hidden": "true" });
    if (stacked) element("rect", { width: 18, height: 10, rx: 2, fill: `url(#${name}-${index})` }, swatch);
    else element("path", { d: "M0 5H18", class: `cp-line s${index}`, "stroke-dasharray": DASHES[index % DASHES.length] }, swatch);
    item.append(swatch, document.createTextNode(line.name));
  });
  fillTable(figure.querySelector("details > div"), moments, step, series, unit);
}

// The page does not move while a chart is read: its text has the room of the longest one from the start.
function reserveRoom(place, texts) {
  const before = place.textContent;
  place.style.minHeight = "";
  let room = 0;
  for (const text of texts.sort((one, other) => other.length - one.length).slice(0, 3)) {
    place.textContent = text;
    room = Math.max(room, Math.ceil(place.getBoundingClientRect().height));
  }
  place.textContent = before;
  place.style.minHeight = `${room}px`;
}

function fillTable(place, moments, step, series, unit) {
  const table = document.createElement("table");
  table.className = "cp-table";
  const head = html("tr", html("thead", table));
  html("th", head, isShownLocal(step) ? "Time" : "Time (UTC)", { scope: "col" });
  series.forEach((line) => html("th", head, line.name, { scope: "col", class: "n" }));
  const body = html("tbody", table);
  moments.forEach((moment, number) => {
    if (!series.some((line) => line.values[number])) return;
    const row = html("tr", body);
    html("th", row, fullTime(moment, step), { scope: "row" });
    series.forEach((line) => html("td", row, shown(line.values[number], unit), { class: "n" }));
  });
  place.replaceChildren(table);
}
