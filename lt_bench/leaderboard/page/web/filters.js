// Search, filters, columns and views: controls that are made once and follow the state.

const VIEWS = {
  table: { title: "Table", show: (place) => showTable(place), lines: () => tableLines() },
  classes: { title: "Classes", show: (place) => showMatrix(place), lines: () => classLines() },
  compare: { title: "Compare", show: (place) => showComparison(place), lines: () => comparisonLines() },
  plot: { title: "Plot", show: (place) => showPlot(place), lines: () => plotLines() },
};

/** Filters by a value: of each the title and what it is of a row. A row may have several values. */
const CHOICES = {
  data: ["Data set", (row) => [row.where.dataset]],
  factor: ["Factor", (row) => [String(row.where.factor)]],
  protocol: ["Protocol", (row) => [row.where.protocol]],
  track: ["Track", (row) => [row.where.track]],
  family: ["Family", (row) => row.families],
  network: ["Network", (row) => [row.network]],
};
const LEADING = ["data", "factor", "protocol"];

/** Filters by a limit: title, hint, and the step that a number goes in. */
const LIMITS = {
  from: ["Year from", "Paper's year, at least"],
  to: ["Year to", "Paper's year, at most"],
  cost: ["Seconds up to", "Wall-clock of one run, at most"],
  seeds: ["Seeds from", "Number of seeds, at least"],
};

function showControls() {
  const place = byId("controls");
  if (!place.firstChild) place.append(tabs(), searchBar(), moreFilters(), el("p", { id: "count", class: "count" }));
  for (const [name, view] of Object.entries(VIEWS)) follow(byId(`tab-${name}`), view, name);
  for (const name of Object.keys(CHOICES)) offer(byId(`filter-${name}`), name);
  for (const name of ["q", ...Object.keys(LIMITS)]) setValue(byId(`filter-${name}`), state[name]);
  for (const { key } of COLUMNS) byId(`column-${key}`).checked = state.columns.includes(key);
  showCount();
}

function follow(tab, view, name) {
  tab.setAttribute("aria-selected", String(state.view === name));
  tab.tabIndex = state.view === name ? 0 : -1;
  if (name === "compare") tab.textContent = state.pin.length ? `${view.title} (${state.pin.length})` : view.title;
}

/** Not while it is typed in: the caret would jump. */
function setValue(input, value) {
  if (input !== document.activeElement || input.value.trim() !== value.trim()) input.value = value;
}

function showCount() {
  const rows = ROWS.filter((row) => passes(row));
  const runs = rows.reduce((sum, row) => sum + row.n, 0);
  const tables = new Set(rows.map((row) => row.where)).size;
  const of = rows.length < ROWS.length ? ` of ${ROWS.length.toLocaleString("en")}` : "";
  byId("count").textContent =
    `${rows.length.toLocaleString("en")}${of} methods, ${plural(runs, "run")}, ${plural(tables, "table")}`;
}

function tabs() {
  const names = Object.keys(VIEWS);
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = names[(names.indexOf(state.view) + step + names.length) % names.length];
    change({ view: next }, true);
    byId(`tab-${next}`).focus();
  };
  const tab = (name) =>
    button(VIEWS[name].title, () => change({ view: name }, true), {
      role: "tab",
      id: `tab-${name}`,
      "aria-controls": "view",
    });
  return el("div", { class: "tabs", role: "tablist", "aria-label": "Views", on: { keydown: move } }, names.map(tab));
}

function searchBar() {
  const input = el("input", {
    type: "search",
    id: "filter-q",
    placeholder: "Search methods and papers",
    "aria-label": "Search methods and papers",
    autocomplete: "off",
    spellcheck: "false",
    on: { input: () => change({ q: input.value }) },
  });
  return el("div", { class: "bar", role: "search" }, input, LEADING.map(choice), actions());
}

function choice(name) {
  const select = el("select", {
    id: `filter-${name}`,
    "aria-label": CHOICES[name][0],
    on: { change: () => choose(name, select.value) },
  });
  return el("label", { class: "field" }, el("span", {}, CHOICES[name][0]), select);
}

/** Choose a value; the other choices that leave nothing with it are opened again. */
function choose(name, value) {
  state = { ...state, [name]: value };
  for (const other of ["protocol", "factor", "data", "track", "family", "network"]) {
    if (other !== name && !ROWS.some((row) => passes(row, ["q"]))) state = { ...state, [other]: ALL };
  }
  change({ open: [] }, true);
}

/** The values of a choice, with the number of rows that each would show beside the other filters. */
function offer(select, name) {
  const value = CHOICES[name][1];
  const counts = new Map();
  for (const row of ROWS.filter((one) => passes(one, [name]))) {
    for (const found of value(row)) counts.set(found, (counts.get(found) || 0) + 1);
  }
  const text = (found) => (found === "null" ? "none" : found);
  const options = distinct(ROWS.flatMap(value)).map((found) =>
    el(
      "option",
      { value: found, is: { selected: state[name] === found } },
      `${text(found)} (${counts.get(found) || 0})`,
    ),
  );
  select.replaceChildren(el("option", { value: ALL, is: { selected: state[name] === ALL } }, "all"), ...options);
}

function actions() {
  const csv = () => download(`leaderboard-${state.view}.csv`, asCsv(VIEWS[state.view].lines()), "text/csv");
  return el(
    "div",
    { class: "actions" },
    button("CSV", csv, { id: "csv", "data-hint": "Exactly what is shown, with all digits." }),
    button("Copy link", () => copy(location.href, "Address"), {
      id: "link",
      "data-hint": "The address holds everything that is chosen here.",
    }),
    button("Paper view", () => change({ paper: "1" }, true), {
      id: "paper",
      "data-hint": "White and without controls, to take a picture of. Escape ends it.",
    }),
  );
}

function moreFilters() {
  const number = (name) => {
    const [title, hint] = LIMITS[name];
    const input = el("input", {
      type: "number",
      min: "0",
      inputmode: "numeric",
      id: `filter-${name}`,
      "data-hint": hint,
      on: { input: () => change({ [name]: input.value }) },
    });
    return el("label", { class: "field" }, el("span", {}, title), input);
  };
  const filters = el(
    "details",
    { class: "more" },
    el("summary", {}, "More filters"),
    el("div", { class: "bar" }, ["track", "family", "network"].map(choice), Object.keys(LIMITS).map(number)),
  );
  const columns = el(
    "details",
    { class: "more" },
    el("summary", {}, "Columns"),
    el("fieldset", { class: "columns" }, el("legend", { class: "unseen" }, "Columns to show"), COLUMNS.map(columnBox)),
  );
  const reset = button(
    "Reset",
    () => {
      state = DEFAULTS;
      change({}, true);
    },
    { id: "reset", class: "quiet" },
  );
  return el("div", { class: "moreline" }, filters, columns, reset);
}

function columnBox(column) {
  const box = el("input", {
    type: "checkbox",
    id: `column-${column.key}`,
    is: { disabled: column.key === "method" },
    on: { change: () => toggle() },
  });
  const toggle = () => {
    const keys = COLUMNS.map(({ key }) => key).filter((key) =>
      key === column.key ? box.checked : state.columns.includes(key),
    );
    change({ columns: keys });
  };
  return el("label", {}, box, column.title);
}
