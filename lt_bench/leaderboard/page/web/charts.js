// What all drawings share: scales, axes, a cursor that pointer and keyboard move.

const SERIES = ["one", "two", "three", "four"];
/** Series are told apart by dashes as well as by colour. */
const DASHES = ["", "5 3", "2 2", "8 3 2 3"];

const linear =
  ([low, high], [from, to]) =>
  (value) =>
    from + ((to - from) * (value - low)) / (high - low || 1);
function logarithmic([low, high], range) {
  const inner = linear([Math.log(low), Math.log(high)], range);
  return (value) => inner(Math.log(value));
}

/** About `number` round values within a range. */
function ticks(low, high, number = 5) {
  const rough = (high - low) / number || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++)
    found.push(Number((k * step).toPrecision(12)));
  return found;
}

/** The box of a drawing, with room for its axes. */
function frame(width, height, { left = 36, right = 10, top = 8, bottom = 34 } = {}) {
  return { width, height, left, top, right: width - right, bottom: height - bottom };
}

function canvas(box, label, ...children) {
  return svg(
    "svg",
    {
      class: "chart",
      width: box.width,
      height: box.height,
      viewBox: `0 0 ${box.width} ${box.height}`,
      role: "img",
      "aria-label": label,
    },
    children,
  );
}

const label = (x, y, text, anchor = "middle", kind = "tick") =>
  svg("text", { class: kind, x, y, "text-anchor": anchor }, text);

function yAxis(box, scale, values, text = (value) => String(value)) {
  return values.map((value) => [
    svg("line", { class: "grid", x1: box.left, x2: box.right, y1: scale(value), y2: scale(value) }),
    label(box.left - 6, scale(value) + 4, text(value), "end"),
  ]);
}

function xAxis(box, scale, values, title, text = (value) => String(value)) {
  return [
    svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    values.map((value) => label(scale(value), box.bottom + 14, text(value))),
    title && label((box.left + box.right) / 2, box.height - 4, title, "middle", "title"),
  ];
}

function path(points, properties) {
  const d = points.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  return svg("path", { d, fill: "none", ...properties });
}

/** A line with a level piece for each value. */
function stairs(values, edge, y) {
  return values.flatMap((value, k) =>
    known(value)
      ? [
          [edge(k), y(value)],
          [edge(k + 1), y(value)],
        ]
      : [],
  );
}

function legend(names, kinds = SERIES) {
  const sample = (kind, k) =>
    svg(
      "svg",
      { width: 22, height: 10, "aria-hidden": "true" },
      svg("line", { class: `line ${kind}`, x1: 0, x2: 22, y1: 5, y2: 5, "stroke-dasharray": DASHES[k] || null }),
    );
  return el(
    "ul",
    { class: "legend" },
    names.map((name, k) => el("li", {}, sample(kinds[k], k), name)),
  );
}

/** Where in the width of what it listens to an event is, from 0 to 1. */
function shareAcross({ clientX, currentTarget }, left = 0, right = 0) {
  const box = currentTarget.getBoundingClientRect();
  return (clientX - box.left - left) / (box.width - left - right);
}

const KEYS = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };

/** Steps along `count` places, as a slider takes them. */
function byKey(event, count, move) {
  const step = KEYS[event.key];
  if (!step) return;
  event.preventDefault();
  move(Math.max(-count, Math.min(count, step)));
}

/**
 * Makes a drawing tell of one of `count` places along x: pointer and arrow keys move a line, `describe` gives its text.
 * To a screen reader it is a slider whose value is that text.
 */
function withCursor(drawing, box, count, describe, readout, name) {
  const mark = svg("line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" });
  let at = 0;
  const move = (place) => {
    at = Math.max(0, Math.min(count - 1, place));
    const x = box.left + ((box.right - box.left) * (at + 0.5)) / count;
    fill(mark, { x1: x, x2: x, visibility: "visible" }, []);
    fill(drawing, { "aria-valuenow": at + 1, "aria-valuetext": describe(at) }, []);
    readout.textContent = describe(at);
  };
  const point = (event) => move(Math.floor(count * shareAcross(event, box.left, box.width - box.right)));
  const key = (event) => byKey(event, count, (step) => move(at + step));
  const names = { role: "slider", tabindex: 0, "aria-label": name };
  const values = { "aria-valuemin": 1, "aria-valuemax": count, "aria-valuenow": 1, "aria-valuetext": describe(0) };
  const on = { pointermove: point, pointerdown: point, keydown: key };
  return fill(drawing, { ...names, ...values, on }, [mark]);
}
