// What is looked at. All of it stands behind the # of the address, so that a view can be sent to somebody.

const MOST_PINNED = 4;
const ALL = "all";

/** Every part of the state with its value where the address does not say it. Lists stand there with commas. */
function defaults() {
  const first = widestTable();
  return {
    view: "table",
    q: "",
    data: first ? first.dataset : ALL,
    factor: first ? String(first.factor) : ALL,
    protocol: first ? first.protocol : ALL,
    track: first ? first.track : ALL,
    family: ALL,
    network: ALL,
    from: "",
    to: "",
    cost: "",
    seeds: "",
    sort: "-top1",
    columns: matchMedia("(max-width: 640px)").matches ? NARROW : WIDE,
    pin: [],
    open: [],
    a: "",
    b: "",
    x: "seconds",
    y: "top1",
    point: "",
    paper: "",
  };
}

const DEFAULTS = defaults();
let state = DEFAULTS;

function readHash() {
  const told = new URLSearchParams(location.hash.slice(1));
  const read = ([name, usual]) => {
    if (!told.has(name)) return [name, usual];
    const value = told.get(name);
    return [name, Array.isArray(usual) ? value.split(",").filter(Boolean) : value];
  };
  return valid(Object.fromEntries(Object.entries(DEFAULTS).map(read)));
}

/** An address may be of an older board, or made up: what is not known here falls back to what is usual. */
function valid(told) {
  const rows = (ids) => [...new Set(ids)].filter((id) => BY_ID.has(id));
  const columns = [...new Set(told.columns)].filter((key) => Object.hasOwn(COLUMN, key));
  const measure = (key, usual) => (MEASURES.includes(key) ? key : usual);
  return {
    ...told,
    view: Object.hasOwn(VIEWS, told.view) ? told.view : DEFAULTS.view,
    sort: Object.hasOwn(COLUMN, told.sort.replace("-", "")) ? told.sort : DEFAULTS.sort,
    columns: columns.includes("method") ? columns : ["method", ...columns],
    pin: rows(told.pin).slice(0, MOST_PINNED),
    open: rows(told.open),
    x: measure(told.x, DEFAULTS.x),
    y: measure(told.y, DEFAULTS.y),
    point: BY_ID.has(told.point) ? told.point : "",
  };
}

function asHash() {
  const differs = ([name, value]) => String(value) !== String(DEFAULTS[name]);
  return new URLSearchParams(
    Object.entries(state)
      .filter(differs)
      .map(([name, value]) => [name, String(value)]),
  ).toString();
}

/** Change the state and its address. `step`: worth a step back in the browser's history. */
function remember(part, step = false) {
  state = valid({ ...state, ...part });
  history[step ? "pushState" : "replaceState"](null, "", `#${asHash()}`);
}

/** Change the state and show what it makes. */
function change(part, step = false) {
  remember(part, step);
  show();
}

const matches = (wanted, found) => wanted === ALL || wanted === String(found);
const limit = (text) => (text.trim() === "" || Number.isNaN(Number(text)) ? null : Number(text));

/** Whether a row is within the filters; those named in `except` let everything through. */
function passes(row, except = []) {
  const asked = (name) => !except.includes(name);
  const [from, to, cost, seeds] = ["from", "to", "cost", "seeds"].map((name) =>
    asked(name) ? limit(state[name]) : null,
  );
  return (
    (!asked("data") || matches(state.data, row.where.dataset)) &&
    (!asked("factor") || matches(state.factor, row.where.factor)) &&
    (!asked("protocol") || matches(state.protocol, row.where.protocol)) &&
    (!asked("track") || matches(state.track, row.where.track)) &&
    (!asked("family") || state.family === ALL || row.families.includes(state.family)) &&
    (!asked("network") || matches(state.network, row.network)) &&
    (from === null || (known(row.year) && row.year >= from)) &&
    (to === null || (known(row.year) && row.year <= to)) &&
    (cost === null || (known(row.seconds) && row.seconds <= cost)) &&
    (seeds === null || row.n >= seeds) &&
    (!asked("q") ||
      state.q
        .toLowerCase()
        .split(/\s+/)
        .every((word) => row.words.includes(word)))
  );
}

/** The rows to show, each table by itself: those of different tables are never put in one order. */
function shownByTable() {
  const rows = ROWS.filter((row) => passes(row));
  return TABLES.map((table) => ({
    table,
    rows: sorted(
      rows.filter((row) => row.where === table),
      state.sort,
    ),
  })).filter((group) => group.rows.length);
}

const pinned = () => state.pin.map((id) => BY_ID.get(id));

function togglePin(row) {
  const there = state.pin.includes(row.id);
  if (!there && state.pin.length === MOST_PINNED) {
    say(`At most ${MOST_PINNED} rows can be pinned`);
    return;
  }
  say(`${row.method} ${there ? "unpinned" : "pinned"}`);
  change({ pin: there ? state.pin.filter((id) => id !== row.id) : [...state.pin, row.id] });
}

function toggleOpen(row) {
  change(
    { open: state.open.includes(row.id) ? state.open.filter((id) => id !== row.id) : [...state.open, row.id] },
    true,
  );
}
