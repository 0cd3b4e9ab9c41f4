// The pinned rows side by side, and any two rows of one table against each other.

const AGAINST = ["top1", ...GROUPS, "worst_class", "ece"];

function showComparison(place) {
  const rows = pinned();
  const tables = new Set(rows.map((row) => row.where));
  if (tables.size > 1)
    place.append(
      el(
        "p",
        { class: "note" },
        "The pinned rows stand in different tables, whose numbers do not compare; shown are those of the first one's.",
      ),
    );
  const alike = alikePinned();
  if (alike.length > 1) place.append(sideBySide(alike));
  else
    place.append(el("p", { class: "small" }, `Pin up to ${MOST_PINNED} rows of the table to see them side by side.`));
  place.append(againstEachOther(candidatesFor(alike), alike));
}

/** The pinned rows that stand in one table with the first. */
const alikePinned = () => pinned().filter((row) => row.where === pinned()[0].where);

function sideBySide(rows) {
  return el(
    "section",
    { class: "block" },
    el("h2", {}, rows[0].where.title),
    el(
      "div",
      { class: "beside" },
      scoreTable(rows),
      el("div", {}, el("h3", {}, "Accuracy by class"), classFigure(rows, 320)),
    ),
  );
}

/** A column a row, a line a score; the best of each in bold. */
function scoreTable(rows) {
  const { best } = contextOf({ rows });
  const isBest = ({ key, value }, row) => known(best[key]) && value(row) === best[key];
  const cell = (column, row) => el("td", { class: isBest(column, row) ? "number best" : "number" }, column.cell(row));
  const line = (column) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, column.title),
      rows.map((row) => cell(column, row)),
    );
  const scores = ["rank", "n", ...AGAINST, "gap", "printed", "difference", "seconds"].map((key) => COLUMN[key]);
  const heads = ["", ...rows.map((row) => ofNumbers(row.method))];
  return plainTable(heads, scores.map(line), "Scores side by side", "sides");
}

const candidatesFor = (alike) => (alike.length ? alike[0].where.rows : ROWS.filter((row) => passes(row)));

/** Which two: those that are asked for, else the pinned ones, else the plain row of the table and its first. */
function chosenTwo(candidates, alike) {
  const asked = [state.a, state.b].map((id) => candidates.find((row) => row.id === id) || null);
  const table = (asked[0] || asked[1] || candidates[0]).where.rows;
  const usual = [...alike, table[0].baseline, ...table].filter((row) => row && row.where.rows === table);
  const first = asked[0] || usual.find((row) => row !== asked[1]);
  const second = asked[1] && asked[1] !== first && asked[1].where.rows === table ? asked[1] : null;
  return [first, second || usual.find((row) => row !== first) || null];
}

function againstEachOther(candidates, alike) {
  if (!candidates.length) return el("p", { class: "empty" }, "No method passes these filters.");
  const [first, second] = chosenTwo(candidates, alike);
  const firsts = candidates.includes(first) ? candidates : [first, ...candidates];
  const others = first.where.rows.filter((row) => row !== first);
  const picks = [pickRow("a", "First", first, firsts), second && pickRow("b", "Second", second, others)];
  const found = second ? versus(first, second) : el("p", { class: "small" }, "Its table has no other row.");
  const title = el("h2", {}, "Two against each other");
  return el("section", { class: "block versus" }, title, el("div", { class: "bar" }, picks), found);
}

function pickRow(name, title, row, rows) {
  const option = (one) => el("option", { value: one.id, is: { selected: one === row } }, candidatesTitle(one, rows));
  const on = { change: () => change({ [name]: select.value }, true) };
  const select = el("select", { id: `compare-${name}`, "aria-label": title, on }, rows.map(option));
  return el("label", { class: "field" }, el("span", {}, title), select);
}

const candidatesTitle = (row, rows) =>
  rows.some((one) => one.where !== rows[0].where) ? `${row.method} · ${row.where.title}` : row.method;

function versus(first, second) {
  const found = differences(first, second);
  const gains = el("div", {}, el("h3", {}, "What the second gains, class by class"), gainFigure(first, second));
  if (!found.length) return [el("p", { class: "note" }, "They have no seed in common, so nothing is paired."), gains];
  const cell = (text) => el("td", { class: "number" }, text);
  const figures = (one) => [fixed(one.first), fixed(one.second), signed(one.mean), plusMinus(one.half), pText(one.p)];
  const line = ([name, one]) => el("tr", {}, el("th", { scope: "row" }, COLUMN[name].title), figures(one).map(cell));
  const seeds = plural(found[0][1].n, "common seed");
  const caption = `Second minus first, seed by seed over ${seeds}; p of Student's paired t test`;
  const heads = ["", ...[first.method, second.method, "Difference", "95 % interval", "p"].map(ofNumbers)];
  const table = plainTable(heads, found.map(line), caption);
  return [
    el("p", { class: "verdict" }, verdict(first, second, found[0][1])),
    el("div", { class: "beside" }, el("div", {}, table, imagesNote(first, second)), gains),
  ];
}

/** Of every score that both have, the paired difference over the seeds; top-1 first. */
const differences = (first, second) =>
  AGAINST.map((name) => [name, overSeeds(first, second, (run) => run.scores[name])]).filter(([, one]) => one);

function comparisonLines() {
  const alike = alikePinned();
  const candidates = candidatesFor(alike);
  const [first, second] = candidates.length ? chosenTwo(candidates, alike) : [null, null];
  if (!second) return [];
  return differences(first, second).map(([score, one]) => ({
    table: first.where.name,
    first: first.method,
    second: second.method,
    score,
    seeds: one.n,
    first_mean: one.first,
    second_mean: one.second,
    difference: one.mean,
    interval: one.half,
    p: one.p,
  }));
}

const pText = (p) => (known(p) ? (p < 0.001 ? "< 0.001" : p.toFixed(3)) : "");

function verdict(first, second, top1) {
  if (!known(top1.half)) return "One common seed says nothing about another training.";
  if (Math.abs(top1.mean) <= top1.half) return `${first.method} and ${second.method} cannot be told apart by top-1.`;
  const [better, worse] = top1.mean > 0 ? [second, first] : [first, second];
  return `${better.method} has the higher top-1, ${worse.method} the lower: more than seeds explain.`;
}

/** Bars of the difference of every class. */
function gainFigure(first, second) {
  const { split } = first;
  const gains = split.order.map((index) => {
    const [a, b] = [first, second].map((row) => row.accuracyOfClasses[index]);
    return known(a) && known(b) ? b - a : null;
  });
  const furthest = Math.max(5, ...gains.filter(known).map(Math.abs)) * 1.05;
  const bar = (gain, k, edge, y) =>
    classBar(gain < 0 ? "loses" : "gains", edge, k, y(Math.max(0, gain)), y(Math.min(0, gain)));
  const content = (box, edge, y) => [
    gains.map((gain, k) => known(gain) && bar(gain, k, edge, y)),
    svg("line", { class: "axis", x1: box.left, x2: box.right, y1: y(0), y2: y(0) }),
  ];
  const describe = (place) => `${className(split, place)}: ${signed(gains[place], 1) || MISSING} points`;
  const name = `Points that ${second.method} gains over ${first.method} by class`;
  const text = (value) => signed(value, 0);
  const range = [-furthest, furthest];
  const axis = { height: 240, range, values: ticks(...range, 6), text, name, describe };
  const [better, worse] = [1, -1].map((sign) => gains.filter((gain) => sign * gain > 0).length);
  const said = `Better in ${plural(better, "class", "classes")}, worse in ${worse}.`;
  return [overClasses(split, axis, content), el("p", { class: "small" }, said)];
}

/**
 * The bound on the mean square of what an image gains, from the triangle of all pairs of the table; null where there is
 * none. `lt_bench/leaderboard/agreement.py` says why it is one.
 */
function meanSquare(first, second) {
  const { rows, squares } = first.where;
  const [low, high] = [rows.indexOf(first), rows.indexOf(second)].sort((a, b) => a - b);
  const pairs = (rows.length * (rows.length - 1)) / 2;
  if (!squares || low < 0) return null;
  const found = decode(squares, pairs)[low * rows.length - (low * (low + 1)) / 2 + high - low - 1] / 65535;
  return found < 1 ? found : null;
}

/** What the test images say, by an interval that is too wide rather than too narrow. */
function overImages(first, second) {
  const square = meanSquare(first, second);
  const [one, other] = [first, second].map((row) => row.full.runs.slice(0, DATA.bound_seeds));
  const pairs = one.flatMap((run) =>
    other.filter(({ seed }) => seed === run.seed).map((found) => found.scores.top1 - run.scores.top1),
  );
  if (square === null || !pairs.length) return null;
  const images = first.where.test_images;
  const gain = mean(pairs);
  const half = 100 * quantileT(images - 1) * Math.sqrt(Math.max(0, square - (gain / 100) ** 2) / (images - 1));
  return { images, gain, half, apart: Math.abs(gain) > half };
}

function imagesNote(first, second) {
  const found = overImages(first, second);
  const note = (text) => el("p", { class: "small", id: "over-images" }, text);
  if (!found)
    return note("Over test images nothing is told here; lt-bench compare tells it where the data set is at hand.");
  const { images, gain, half } = found;
  const said = found.apart
    ? "more than another set of test images of the kind would explain"
    : "the records alone do not tell them apart; lt-bench compare may, with the data set at hand";
  const why = "At most, because an image can only be gained where the two predict different classes.";
  return note(`Over ${plural(images, "test image")}: ${signed(gain)} ± at most ${fixed(half)}, ${said}. ${why}`);
}
