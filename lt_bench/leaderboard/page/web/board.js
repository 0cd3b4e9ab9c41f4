// The data behind the page: rows with all that is derived from their counts.

const DATA = JSON.parse(byId("data").textContent);
const TABLES = DATA.tables;
const GROUPS = ["many", "medium", "few"];

const groupOf = (images) => (images > DATA.many_above ? "many" : images < DATA.few_below ? "few" : "medium");

/** The classes of a split, and `order`: their indices from the largest to the smallest. */
function withOrder(classes) {
  const order = classes.train.map((_, k) => k).sort((a, b) => classes.train[b] - classes.train[a] || a - b);
  return { ...classes, order, groups: classes.train.map(groupOf) };
}

const CLASSES = DATA.classes.map(withOrder);

/** Whole numbers of 16 bits, or of 32 where these are as many bytes. */
function decode(text, number) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const wide = bytes.length === 4 * number;
  return Array.from({ length: number }, (_, k) => (wide ? view.getUint32(4 * k, true) : view.getUint16(2 * k, true)));
}

/** Accuracy of every class in percent, null for one without test images. */
function accuracies(correct, classes) {
  return correct.map((right, k) => (classes.test[k] ? (100 * right) / classes.test[k] : null));
}

function meanOf(values) {
  const some = values.filter(known);
  return some.length ? mean(some) : null;
}

/** The scores of one run, in percent, from its counts. */
function runScores(run, classes) {
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const groups = GROUPS.map((name) => [name, meanOf(run.accuracy.filter((_, k) => classes.groups[k] === name))]);
  return {
    top1: (100 * sum(run.counts)) / sum(classes.test),
    ...Object.fromEntries(groups),
    worst_class: Math.min(...run.accuracy.filter(known)),
    ece: run.ece,
  };
}

/** Unpacks the runs of a row when they are first asked for: a list of thousands never needs most of them. */
function unpacked(row) {
  const classes = CLASSES[row.classes];
  const runs = row.runs.map((run) => {
    const counts = decode(run.correct, classes.train.length);
    const one = { ...run, counts, accuracy: accuracies(counts, classes), made: DATA.made[run.made] || null };
    return { ...one, scores: runScores(one, classes) };
  });
  const accuracy = classes.train.map((_, k) => meanOf(runs.map((run) => run.accuracy[k])));
  return { runs, accuracy };
}

class Row {
  #unpacked = null;

  constructor(told) {
    Object.assign(this, told, Object.fromEntries(DATA.scores.map((name) => [name, told.means[name] ?? null])), {
      told,
    });
    this.split = CLASSES[told.classes];
    this.where = TABLES[told.table];
    this.n = told.runs.length;
    this.year = told.paper ? told.paper.year : null;
    this.difference = known(told.printed) ? this.top1 - told.printed : null;
    this.seconds = meanOf(told.runs.map((run) => run.seconds));
    this.device = told.external ? "elsewhere" : DATA.made[told.runs[0].made].device;
    this.network = told.network || "unknown";
    const cited = told.paper ? told.paper.cite : "";
    this.words = [told.method, ...told.families, this.network, cited].join(" ").toLowerCase();
  }

  get full() {
    return (this.#unpacked ??= unpacked(this.told));
  }

  /** Mean accuracy over the seeds of every class, in percent. */
  get accuracyOfClasses() {
    return this.full.accuracy;
  }

  /** The plain row of its table, to see a method against; null where it has none or is it itself. */
  get baseline() {
    const rows = this.where.rows;
    const plain = rows.find((row) => row.recipe === "ce" && !row.changes.length && !row.superseded);
    const found = plain || rows.find((row) => row.families[0] === "baseline" && !row.superseded);
    return found === this ? null : found || null;
  }
}

const ROWS = DATA.rows.map((told) => new Row(told));
TABLES.forEach((table, index) => (table.rows = ROWS.filter((row) => row.table === index)));

/** Recipes may stand in two tables, of two versions of a data set: then their place tells them apart. */
const BY_ID = new Map();
for (const row of ROWS) {
  if (BY_ID.has(row.id)) row.id += `.${BY_ID.size}`;
  BY_ID.set(row.id, row);
}

/** Seed by seed, the second row minus the first: the values of both and the interval of their mean difference. */
function overSeeds(first, second, score) {
  const pairs = first.full.runs.flatMap((run) => {
    const other = second.full.runs.find((one) => one.seed === run.seed);
    const values = other && [score(run), score(other)];
    return values && values.every(known) ? [values] : [];
  });
  if (!pairs.length) return null;
  const [a, b] = [0, 1].map((side) => mean(pairs.map((pair) => pair[side])));
  return { first: a, second: b, ...meanInterval(pairs.map(([one, other]) => other - one)) };
}

const shown = new Intl.Collator("en", { numeric: true });
const distinct = (values) => [...new Set(values.filter((value) => known(value) && value !== ""))].sort(shown.compare);

/** The table that most was computed for opens first: epochs times training images times runs. */
function widestTable() {
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const work = (table) => sum(table.rows.map((row) => row.n * (row.loss[0].at(-1) || 1) * sum(row.split.train)));
  return TABLES.reduce((best, table) => (best && work(best) >= work(table) ? best : table), null);
}
