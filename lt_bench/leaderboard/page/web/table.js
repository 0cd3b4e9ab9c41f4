// The table: a body for each table of the board, pinned rows on top, and below an open row what stands behind it.

const AT_ONCE = 200;
/** Columns whose best value is no merit of a method. */
const UNRANKED = ["seconds", "difference", "printed", "gap"];
let most = AT_ONCE;

const shownColumns = () => state.columns.map((key) => COLUMN[key]);
const shownRows = () => [
  ...pinned(),
  ...shownByTable().flatMap(({ rows }) => rows.filter((row) => !state.pin.includes(row.id))),
];

/** The rows and columns of the table, in their order, with all digits. */
const tableLines = () =>
  shownRows().map((row) =>
    Object.assign({ table: row.where.name }, ...shownColumns().map((column) => column.csv(row))),
  );

function showTable(place) {
  const groups = shownByTable();
  const columns = shownColumns();
  const head = el(
    "thead",
    {},
    el(
      "tr",
      {},
      el("th", { scope: "col", class: "tools" }, el("span", { class: "unseen" }, "Pin")),
      columns.map(headCell),
    ),
  );
  const table = el(
    "table",
    { class: "board" },
    el("caption", { class: "unseen" }, "Methods, best first"),
    head,
    pinnedBody(columns),
  );
  let left = state.paper ? Infinity : most;
  for (const group of groups) {
    const rows = group.rows.filter((row) => !state.pin.includes(row.id));
    if (left > 0) table.append(groupBody(group, rows.slice(0, left), columns));
    left -= rows.length;
  }
  place.append(el("div", { class: "scroller" }, table));
  if (left < 0) place.append(moreRows(-left));
  if (!groups.length) place.append(el("p", { class: "empty" }, "No method passes these filters."));
}

/** The rest comes when the end of the page is near; the button is for keyboards. */
function moreRows(rest) {
  const further = () => {
    most += 2 * AT_ONCE;
    show();
  };
  const more = button(`Show ${Math.min(rest, 2 * AT_ONCE)} more of ${rest.toLocaleString("en")}`, further, {
    class: "further",
    id: "further",
  });
  new IntersectionObserver(([entry]) => entry.isIntersecting && further(), { rootMargin: "600px" }).observe(more);
  return more;
}

function headCell(column) {
  const key = column.sorts || column.key;
  const direction =
    state.sort.replace("-", "") === key ? (state.sort.startsWith("-") ? "descending" : "ascending") : null;
  const first = COLUMN[key].better > 0 || COLUMN[key].most ? `-${key}` : key;
  const click = () => change({ sort: state.sort === first ? (first === key ? `-${key}` : key) : first }, true);
  const arrow = { 1: "↑", "-1": "↓" }[column.better];
  const sorts = direction && !column.drawing;
  return el(
    "th",
    {
      scope: "col",
      class: column.numeric ? "number" : column.drawing ? "figure" : "text",
      "aria-sort": sorts ? direction : null,
    },
    button(column.title, click, { class: "sort", id: `sort-${column.key}`, "data-hint": column.hint }),
    arrow && el("span", { class: "better", "aria-hidden": "true" }, arrow),
    sorts && el("span", { class: "sorted", "aria-hidden": "true" }, direction === "descending" ? "▾" : "▴"),
  );
}

function pinnedBody(columns) {
  const rows = pinned();
  const several = new Set(rows.map((row) => row.where)).size > 1;
  const body = el("tbody", { class: "pinned" });
  const further =
    rows.length > 1 &&
    !several &&
    button("Compare", () => change({ view: "compare" }, true), { class: "quiet", id: "to-compare" });
  if (rows.length)
    body.append(
      groupHead(several ? "Pinned: of different tables, so not to be compared" : "Pinned", columns, null, further),
    );
  rows.forEach((row) => body.append(...tableRow(row, columns, contextOf(row.where))));
  return body;
}

function groupBody({ table, rows: all }, rows, columns) {
  const context = contextOf(table, all);
  const body = el("tbody", {}, groupHead(table.title, columns, table));
  rows.forEach((row) => body.append(...tableRow(row, columns, context)));
  return body;
}

function groupHead(title, columns, table = null, further = null) {
  const about =
    table &&
    el("span", { class: "about" }, plural(table.rows.length, "method"), ", ", plural(table.test_images, "test image"));
  return el(
    "tr",
    { class: "group" },
    el(
      "th",
      { colspan: columns.length + 1, scope: "rowgroup", "data-hint": table && table.about },
      el("div", { class: "stay" }, el("span", {}, title), " ", about, further),
    ),
  );
}

/** What a cell needs of the other rows: the scale of the intervals and the best of each column. */
function contextOf(table, rows = table.rows) {
  const counted = table.rows.filter((row) => !row.superseded);
  const lows = rows.map((row) => row.top1 - (row.interval || 0));
  const highs = rows.map((row) => row.top1 + (row.interval || 0));
  const best = {};
  for (const { key, numeric, better, value } of COLUMNS) {
    if (!numeric || !better || UNRANKED.includes(key)) continue;
    const values = counted.map(value).filter(known);
    if (values.length < 2) continue;
    best[key] = better > 0 ? Math.max(...values) : Math.min(...values);
  }
  return { table, best, low: Math.min(...lows), high: Math.max(...highs) };
}

function tableRow(row, columns, context) {
  const open = state.open.includes(row.id);
  const marks = `${open ? "open" : ""} ${row.superseded ? "superseded" : ""} ${row.yours ? "yours" : ""}`;
  const cells = columns.map((column) =>
    column.key === "method" ? methodCell(row, open) : plainCell(row, column, context),
  );
  const line = el("tr", { class: marks, id: `row-${row.id}` }, el("td", { class: "tools" }, pinBox(row)), cells);
  if (!open) return [line];
  const detail = el("td", { colspan: columns.length + 1 }, el("div", { class: "stay" }, showDetails(row)));
  return [line, el("tr", { class: "detail", id: `detail-${row.id}` }, detail)];
}

function plainCell(row, column, context) {
  const best = !row.superseded && known(column.value(row)) && column.value(row) === context.best[column.key];
  const kind = column.numeric ? "number" : column.drawing ? "figure" : "text";
  return el("td", { class: best ? `${kind} best` : kind }, column.cell(row, context));
}

function methodCell(row, open) {
  const tags = [
    row.superseded && "superseded",
    row.external && "external",
    row.where.track !== "clean" && row.where.track,
  ].filter(Boolean);
  const name = button(row.method, () => toggleOpen(row), {
    class: "open",
    id: `open-${row.id}`,
    "aria-expanded": String(open),
    "aria-controls": open ? `detail-${row.id}` : null,
  });
  return el(
    "th",
    { scope: "row", class: "method" },
    name,
    tags.map((tag) => el("span", { class: "tag" }, tag)),
  );
}

function pinBox(row) {
  const there = state.pin.includes(row.id);
  return el("input", {
    type: "checkbox",
    id: `pin-${row.id}`,
    "aria-label": `Pin ${row.method}`,
    is: { checked: there, disabled: !there && state.pin.length === MOST_PINNED },
    on: { change: () => togglePin(row) },
  });
}

function intervalStrip(row, { low, high }) {
  const [width, pad] = [110, 5];
  const x = (value) => pad + ((width - 2 * pad) * (value - low)) / (high - low || 1);
  const half = row.interval || 0;
  const printed = known(row.printed) && row.printed >= low && row.printed <= high;
  return svg(
    "svg",
    { class: "strip", width, height: 18, "aria-hidden": "true" },
    svg("line", { class: "rail", x1: pad, x2: width - pad, y1: 9, y2: 9 }),
    printed && svg("line", { class: "printed", x1: x(row.printed), x2: x(row.printed), y1: 3, y2: 15 }),
    half > 0 && svg("line", { class: "whisker", x1: x(row.top1 - half), x2: x(row.top1 + half), y1: 9, y2: 9 }),
    svg("circle", { class: row.n > 1 ? "dot" : "dot single", cx: x(row.top1), cy: 9, r: 3.2 }),
  );
}

/** Accuracy along the classes in at most 32 steps. */
function steps(row, number) {
  const { order } = row.split;
  const count = Math.min(number, order.length);
  return Array.from({ length: count }, (_, k) => {
    const part = order.slice(Math.floor((k * order.length) / count), Math.floor(((k + 1) * order.length) / count));
    return meanOf(part.map((index) => row.accuracyOfClasses[index])) ?? 0;
  });
}

function sparkline(row) {
  const [width, height] = [96, 22];
  const line = (values) =>
    values
      .map((value, k) => {
        const [from, to] = [k, k + 1].map((edge) => ((width * edge) / values.length).toFixed(1));
        const y = (height - (height * value) / 100).toFixed(1);
        return `${k ? "L" : "M"}${from} ${y}L${to} ${y}`;
      })
      .join("");
  const own = line(steps(row, 32));
  return svg(
    "svg",
    { class: "spark", width, height, "aria-hidden": "true" },
    svg("path", { class: "area", d: `${own}V${height}H0Z` }),
    row.baseline &&
      row.baseline.split === row.split &&
      svg("path", { class: "behind", d: line(steps(row.baseline, 32)) }),
  );
}
