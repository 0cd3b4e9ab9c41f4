// Methods by classes, in order of class size: a strip of cells for each method.

const SHADES = 10;
const STRIP = 18;

function showMatrix(place) {
  const groups = shownByTable();
  if (!groups.length) place.append(el("p", { class: "empty" }, "No method passes these filters."));
  const readout = el(
    "p",
    { class: "readout sticky", id: "matrix-readout" },
    "Point at a cell, or walk with the arrow keys: accuracy of each class, the largest left.",
  );
  if (groups.length) place.append(readout);
  let left = state.paper ? Infinity : most;
  for (const { table, rows } of groups) {
    if (left > 0) place.append(el("h2", {}, table.title), matrix(rows.slice(0, left), readout));
    left -= rows.length;
  }
  if (left < 0) place.append(moreRows(-left));
  if (groups.length) place.append(shadeKey());
}

function matrix(rows, readout) {
  const grid = el(
    "div",
    { class: "matrix" },
    el(
      "div",
      { class: "matrixhead" },
      el("span"),
      el("span", { class: "number" }, "Top-1"),
      drawn((width) => groupBand(rows[0].split, width)),
    ),
  );
  rows.forEach((row, line) => grid.append(matrixRow(row, line === 0, readout)));
  grid.addEventListener("keydown", (event) => walk(event, grid));
  return grid;
}

/** Up and down go to the strip of the next method; the whole matrix is one stop of the Tab key. */
function walk(event, grid) {
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const strips = [...grid.querySelectorAll("[role=slider]")];
  const at = strips.indexOf(event.target);
  const next = step && strips[at + step];
  if (!next) return;
  event.preventDefault();
  strips[at].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  next.goTo(strips[at].place);
}

/** Every accuracy shown, a line each. */
function classLines() {
  return shownByTable().flatMap(({ table, rows }) =>
    rows.flatMap((row) =>
      row.split.order.map((index) => ({
        table: table.name,
        method: row.method,
        class: row.split.names[index],
        train_images: row.split.train[index],
        accuracy: row.accuracyOfClasses[index],
      })),
    ),
  );
}

function groupBand(split, width) {
  const edge = linear([0, split.order.length], [0, width]);
  const box = { top: 14, bottom: 14 };
  return svg("svg", { width, height: 18, "aria-hidden": "true" }, groupMarks(split, box, edge));
}

function matrixRow(row, first, readout) {
  const open = () => change({ view: "table", open: [row.id] }, true);
  const name = button(row.method, open, { class: "open", id: `cell-${row.id}` });
  return el(
    "div",
    { class: "matrixrow" },
    name,
    el("span", { class: "number" }, fixed(row.top1, 1)),
    strip(row, first, readout),
  );
}

/** The cells of a row, a slider over its classes; `place` is where it stands, `goTo` moves it. */
function strip(row, first, readout) {
  const count = row.split.order.length;
  const text = (place) => {
    const accuracy = fixed(row.accuracyOfClasses[row.split.order[place]], 1) || MISSING;
    return `${row.method}, ${className(row.split, place)}: ${accuracy} %`;
  };
  const mark = el("span", { class: "here" });
  const goTo = (place) => {
    found.place = Math.max(0, Math.min(count - 1, place));
    fill(mark, { set: { left: `${(100 * found.place) / count}%`, width: `${100 / count}%` } }, []);
    fill(found, { "aria-valuenow": found.place + 1, "aria-valuetext": text(found.place) }, []);
    readout.textContent = text(found.place);
  };
  const point = (event) => goTo(Math.floor(count * shareAcross(event)));
  const key = (event) => byKey(event, count, (step) => goTo(found.place + step));
  const names = { role: "slider", tabindex: first ? 0 : -1, "aria-label": `Classes of ${row.method}` };
  const values = { "aria-valuemin": 1, "aria-valuemax": count, "aria-valuenow": 1, "aria-valuetext": text(0) };
  const on = { pointermove: point, keydown: key };
  const found = el("div", { class: "cells", ...names, ...values, is: { goTo, place: 0 }, on }, cells(row), mark);
  return found;
}

const shade = (accuracy) => Math.min(SHADES - 1, Math.floor((accuracy * SHADES) / 100));

/** One path for each shade, so that a strip of a thousand classes is ten elements. */
function cells(row) {
  const { order } = row.split;
  const paths = Array.from({ length: SHADES }, () => "");
  order.forEach((index, place) => {
    const value = row.accuracyOfClasses[index];
    if (known(value)) paths[shade(value)] += `M${place} 0h1v1h-1z`;
  });
  return svg(
    "svg",
    {
      viewBox: `0 0 ${order.length} 1`,
      preserveAspectRatio: "none",
      height: STRIP,
      "aria-hidden": "true",
      "shape-rendering": "crispEdges",
    },
    paths.map((d, k) => d && svg("path", { d, class: `shade s${k}` })),
  );
}

function shadeKey() {
  const part = (k) => el("span", { class: `swatch s${k}` });
  return el(
    "p",
    { class: "shadekey" },
    "0 %",
    Array.from({ length: SHADES }, (_, k) => part(k)),
    "100 %",
  );
}
