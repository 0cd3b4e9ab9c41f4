// One measure against another: a point a row, each of which can be picked.

const PRESETS = {
  "Accuracy against cost": ["seconds", "top1"],
  "Head against tail": ["many", "few"],
  "Calibration against accuracy": ["ece", "top1"],
};

function showPlot(place) {
  const groups = shownByTable();
  const preset = ([title, [x, y]]) =>
    button(title, () => change({ x, y }, true), {
      class: "preset",
      "aria-pressed": String(state.x === x && state.y === y),
    });
  const axis = (name) => {
    const select = el(
      "select",
      {
        id: `axis-${name}`,
        "aria-label": name === "x" ? "Across" : "Up",
        on: { change: () => change({ [name]: select.value }, true) },
      },
      MEASURES.map((key) => el("option", { value: key, is: { selected: state[name] === key } }, COLUMN[key].title)),
    );
    return el("label", { class: "field" }, el("span", {}, name === "x" ? "Across" : "Up"), select);
  };
  place.append(el("div", { class: "bar" }, Object.entries(PRESETS).map(preset), axis("x"), axis("y")));
  if (!groups.length) place.append(el("p", { class: "empty" }, "No method passes these filters."));
  for (const { table, rows } of groups)
    place.append(el("section", { class: "block" }, el("h2", {}, table.title), scatter(rows)));
}

const TIMES = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 2400, 3600, 7200, 18e3, 36e3, 72e3, 18e4, 36e4];
const MEASURE_TEXT = { seconds: duration, n: String, year: String };
const measureText = (key, value) => (MEASURE_TEXT[key] || ((one) => fixed(one)))(value);
const bothMeasures = (row) =>
  [state.y, state.x].map((key) => `${COLUMN[key].title} ${measureText(key, row[key])}`).join(", ");
const axisTitle = (key) =>
  COLUMN[key].title + (key === "seconds" ? " of one run" : ["n", "year"].includes(key) ? "" : ", %");

const plotted = (rows) => rows.filter((row) => known(row[state.x]) && known(row[state.y]));
const plotLines = () =>
  shownByTable().flatMap(({ table, rows }) =>
    plotted(rows).map((row) => ({
      table: table.name,
      method: row.method,
      [state.x]: row[state.x],
      [state.y]: row[state.y],
    })),
  );

function scatter(all) {
  const rows = plotted(all);
  if (!rows.length) return el("p", { class: "empty" }, "No row has both.");
  const panel = el("div", { class: "picked", role: "status" }, "Pick a point.");
  const again = rows.find((row) => row.id === state.point);
  if (again) pick(again, panel);
  const drawing = drawn((width) => drawPoints(rows, width, panel), { set: { "min-height": "320px" } });
  return [drawing, panel, deviceKey(rows)];
}

function drawPoints(rows, width, panel) {
  const box = frame(width, Math.min(560, Math.max(320, width * 0.55)), { left: 48, right: 24, bottom: 42, top: 14 });
  const [x, y] = [scaleOf(rows, state.x, [box.left, box.right]), scaleOf(rows, state.y, [box.bottom, box.top])];
  const at = (row) => [x.scale(row[state.x]), y.scale(row[state.y])];
  const points = rows.map((row) => point(row, at(row), panel));
  const upright = { class: "title", transform: `translate(12 ${(box.top + box.bottom) / 2}) rotate(-90)` };
  const chart = canvas(
    box,
    `${axisTitle(state.y)} against ${axisTitle(state.x)}: ${plural(rows.length, "point")}`,
    yAxis(box, y.scale, y.ticks, y.text),
    xAxis(box, x.scale, x.ticks, axisTitle(state.x), x.text),
    svg("text", { ...upright, "text-anchor": "middle" }, axisTitle(state.y)),
    frontier(rows, at),
    rows.map((row) => uncertainty(row, at(row), x.scale, y.scale, box)),
    points,
    pointNames(rows, at, box),
  );
  points[
    Math.max(
      0,
      rows.findIndex((row) => row.id === state.point),
    )
  ].setAttribute("tabindex", 0);
  return fill(chart, { role: "group", on: { keydown: (event) => walkPoints(event, points) } }, []);
}

function scaleOf(rows, key, range) {
  const values = rows.map((row) => row[key]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (key === "seconds" && low > 0) {
    const span = [low / 1.25, high * 1.25];
    return {
      scale: logarithmic(span, range),
      ticks: TIMES.filter((time) => time >= span[0] && time <= span[1]),
      text: duration,
    };
  }
  const room = (high - low || 1) * 0.06;
  const span = [low - room, high + room];
  return {
    scale: linear(span, range),
    ticks: ticks(...span).filter((value) => !["n", "year"].includes(key) || Number.isInteger(value)),
    text: String,
  };
}

/** The interval of top-1, along the axis that shows it. */
function uncertainty(row, [x, y], across, up, box) {
  if (!known(row.interval)) return null;
  const ends = (scale, low, high) =>
    [-1, 1].map((sign) => Math.max(low, Math.min(high, scale(row.top1 + sign * row.interval))));
  const [[x1, x2], [y1, y2]] = [ends(across, box.left, box.right), ends(up, box.top, box.bottom)];
  if (state.y === "top1") return svg("line", { class: "spread", x1: x, x2: x, y1, y2 });
  return state.x === "top1" && svg("line", { class: "spread", x1, x2, y1: y, y2: y });
}

/** Round on a graphics card, square on a processor: their seconds do not compare. */
function point(row, [x, y], panel) {
  const marks = [!row.rank && "hollow", state.pin.includes(row.id) && "pinned", row.id === state.point && "chosen"];
  const kind = ["point", ...marks.filter(Boolean)].join(" ");
  const shape =
    row.device === "cpu"
      ? svg("rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9 })
      : svg("circle", { cx: x, cy: y, r: 5 });
  const choose = (event) => {
    document.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
    event.currentTarget.classList.add("chosen");
    remember({ point: row.id });
    pick(row, panel);
  };
  const name = `${row.method}: ${bothMeasures(row)}`;
  return svg(
    "g",
    {
      class: kind,
      role: "button",
      tabindex: -1,
      "aria-label": name,
      on: {
        click: choose,
        keydown: (event) => ["Enter", " "].includes(event.key) && (event.preventDefault(), choose(event)),
      },
    },
    svg("title", {}, name),
    svg("circle", { class: "reach", cx: x, cy: y, r: 12 }),
    shape,
  );
}

/** Arrow keys go from point to point, in the order of the table. */
function walkPoints(event, points) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const next = step && points[points.indexOf(document.activeElement) + step];
  if (!next) return;
  event.preventDefault();
  document.activeElement.setAttribute("tabindex", -1);
  next.setAttribute("tabindex", 0);
  next.focus();
}

function pick(row, panel) {
  panel.replaceChildren(
    el("strong", {}, row.method),
    el("span", {}, ` ${bothMeasures(row)}; ${row.device}, ${plural(row.n, "seed")}, rank ${rankText(row)}`),
    button("Open", () => change({ view: "table", open: [row.id] }, true), { class: "quiet" }),
    button(state.pin.includes(row.id) ? "Unpin" : "Pin", () => togglePin(row), { class: "quiet", id: "pick-pin" }),
  );
}

/** The rows that none beats in both. */
function frontier(rows, at) {
  const [h, v] = [COLUMN[state.x].better, COLUMN[state.y].better];
  const beats = (one, other) =>
    h * one[state.x] >= h * other[state.x] &&
    v * one[state.y] >= v * other[state.y] &&
    (one[state.x] !== other[state.x] || one[state.y] !== other[state.y]);
  const best = rows.filter((row) => !row.superseded && !rows.some((other) => !other.superseded && beats(other, row)));
  return path(
    best.map(at).sort((a, b) => a[0] - b[0]),
    { class: "frontier" },
  );
}

/** Names where there is room for them, best rows first. */
function pointNames(rows, at, box) {
  const taken = rows.map(at).map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]);
  const free = ([a, b, c, d]) =>
    a >= box.left &&
    c <= box.right + 20 &&
    b > 0 &&
    d < box.bottom &&
    !taken.some(([e, f, g, h]) => a < g && c > e && b < h && d > f);
  return rows.flatMap((row) => {
    const [x, y] = at(row);
    const text = row.method.length > 28 ? `${row.method.slice(0, 27)}…` : row.method;
    const size = text.length * 6.2;
    const places = [
      [x + 8, y - 7, x + 8 + size, y + 6, "start"],
      [x - 8 - size, y - 7, x - 8, y + 6, "end"],
      [x - size / 2, y - 20, x + size / 2, y - 8, "middle"],
      [x - size / 2, y + 8, x + size / 2, y + 20, "middle"],
    ];
    const found = places.find(free);
    if (!found) return [];
    taken.push(found);
    const [left, top, right, , anchor] = found;
    return [label({ start: left, end: right, middle: x }[anchor], top + 11, text, anchor, "pointname")];
  });
}

function deviceKey(rows) {
  const devices = distinct(rows.map((row) => row.device));
  const others = devices.filter((device) => device !== "cpu");
  const shapes = [devices.includes("cpu") && "square: a processor", others.length && `round: ${others.join(", ")}`];
  const compares = devices.length > 1 && ". Seconds on different devices do not compare";
  const text = ["Hollow: not ranked; line: beaten by none in both", ...shapes].filter(Boolean).join("; ");
  return el("p", { class: "small" }, text, compares, ".");
}
