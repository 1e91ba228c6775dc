// What a pointer and keys do in a chart of `count` bins. `at` tells the bin under a pointer, `here` the one that is read;
// `select` marks bins, or none. A mouse or a pen drags over bins to zoom in; a finger reads them, or scrolls the page.
"use strict";

const DRAG_PIXELS = 5; // a pointer that moves less while it is pressed has clicked

function listenToChart(plot, count, { at, here, read, select, open, zoom }) {
  const inside = (number) => Math.min(count - 1, Math.max(0, number));
  let pressed = null; // where a drag may begin
  let hasDragged = false; // then the click that follows is none
  let anchor = -1; // the other end of what keys select
  let selected = null;
  const mark = (one, other) => {
    selected = [Math.min(one, other), Math.max(one, other)];
    select(...selected);
  };
  const cancel = () => {
    pressed = selected = null;
    anchor = -1;
    select();
  };
  const zoomIn = () => {
    const bins = selected;
    cancel();
    zoom(...bins);
  };
  plot.removeAttribute("data-selecting"); // of a drawing before this one

  plot.onpointerdown = (event) => {
    if (selected) cancel();
    hasDragged = false;
    if (count && !event.button && event.pointerType !== "touch") pressed = { x: event.clientX, bin: inside(at(event)) };
  };
  plot.onpointermove = (event) => {
    if (!count) return;
    if (pressed && !event.buttons) cancel(); // released where nobody has seen it
    if (pressed && !hasDragged && Math.abs(event.clientX - pressed.x) > DRAG_PIXELS) {
      plot.setPointerCapture(event.pointerId);
      hasDragged = true;
    }
    if (pressed && hasDragged) mark(pressed.bin, inside(at(event)));
    else if (!selected) read(inside(at(event)));
  };
  plot.onpointerup = () => {
    if (pressed && selected) zoomIn();
    pressed = null;
  };
  plot.onpointercancel = plot.onblur = cancel;
  plot.onpointerleave = () => { if (!selected) read(-1); };
  plot.onclick = (event) => {
    if (!hasDragged && at(event) === inside(at(event))) open(at(event));
  };
  plot.onkeydown = (event) => {
    if (event.key === "Escape" && selected) return cancel();
    if (pressed && hasDragged) return;
    if (event.key === "Enter") return selected ? zoomIn() : here() >= 0 && here() < count && open(here());
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!move || !count) return;
    event.preventDefault();
    const from = here() < 0 && move < 0 ? count : here();
    const next = inside(from + move);
    if (!event.shiftKey) {
      if (selected) cancel();
      return read(next);
    }
    if (anchor < 0) anchor = here() < 0 ? next : here();
    mark(anchor, next);
    plot.closest("figure").dataset.at = next;
  };
}
