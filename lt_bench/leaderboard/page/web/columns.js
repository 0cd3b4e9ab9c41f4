// What a column shows of a row, sorts by, exports, and says about itself.

/**
 * A number with the same digits in every row. `better`: 1 where higher is, -1 where lower is, 0 where neither; `most`:
 * sorted from the highest first.
 */
function numeric(key, title, better, hint, options = {}) {
  return {
    key,
    title,
    better,
    hint,
    numeric: true,
    value: (row) => row[key],
    cell: (row) => fixed(row[key]),
    csv: (row) => ({ [key]: row[key] }),
    ...options,
  };
}

function textual(key, title, hint, value) {
  return { key, title, hint, better: 0, value, cell: value, csv: (row) => ({ [key]: value(row) }) };
}

const rankText = (row) => (row.rank ? [...new Set(row.rank)].join("–") : MISSING);
const familyText = (row) => row.families.join(" + ");

const COLUMNS = [
  {
    key: "rank",
    title: "Rank",
    better: 0,
    numeric: true,
    hint: "Every place that the differences allow, taken seed by seed. One seed ranks nothing.",
    value: (row) => (row.rank ? row.rank[0] + row.rank[1] / 1e4 : null),
    cell: rankText,
    csv: (row) => ({ rank_best: row.rank && row.rank[0], rank_worst: row.rank && row.rank[1] }),
  },
  {
    key: "method",
    title: "Method",
    better: 0,
    hint: "A recipe, trained with n seeds. Open a row for all that stands behind it.",
    value: (row) => row.method.toLowerCase(),
    cell: (row) => row.method,
    csv: (row) => ({ method: row.method }),
  },
  numeric("n", "n", 0, "Number of seeds.", { cell: (row) => String(row.n), most: true }),
  numeric(
    "top1",
    "Top-1",
    1,
    "Mean accuracy over the seeds in percent at the last epoch, ± half the width of its 95 % Student t interval.",
    {
      cell: (row) => [fixed(row.top1), known(row.interval) && el("span", { class: "pm" }, plusMinus(row.interval))],
      csv: (row) => ({ top1: row.top1, top1_interval: row.interval }),
    },
  ),
  {
    key: "strip",
    title: "Interval",
    better: 0,
    drawing: true,
    sorts: "top1",
    hint: "The mean and its 95 % interval, on one scale. Hollow: a single seed; the small line: the paper's figure.",
    value: (row) => row.top1,
    cell: (row, view) => intervalStrip(row, view),
    csv: () => ({}),
  },
  numeric("many", "Many", 1, `Mean accuracy of the classes with more than ${DATA.many_above} training images.`),
  numeric(
    "medium",
    "Medium",
    1,
    `Mean accuracy of the classes with ${DATA.few_below} to ${DATA.many_above} training images.`,
  ),
  numeric(
    "few",
    "Few",
    1,
    `Mean accuracy of the classes with fewer than ${DATA.few_below} training images. Noisier than the total.`,
  ),
  {
    key: "shape",
    title: "By class",
    better: 0,
    drawing: true,
    sorts: "few",
    hint: "Accuracy from the largest class, left, to the smallest, right; behind it the baseline of the table.",
    value: (row) => row.few,
    cell: (row) => sparkline(row),
    csv: () => ({}),
  },
  numeric("worst_class", "Worst", 1, "Accuracy of the worst class of each run, averaged."),
  numeric(
    "balanced",
    "Balanced",
    1,
    "Mean of the class accuracies: top-1 itself where every class has as many test images.",
  ),
  numeric(
    "harmonic",
    "Harmonic",
    1,
    "Harmonic mean of the class accuracies: 0 as soon as one class is never recognised.",
  ),
  numeric("ece", "ECE", -1, "Expected calibration error over 15 bins. Empty where the scores are no probabilities."),
  numeric(
    "best_on_val",
    "Best on val",
    1,
    "Top-1 at the epoch that was best on a held-out part of the training images.",
  ),
  numeric(
    "gap",
    "Gap",
    -1,
    "Best on test − last: what choosing the epoch on the test set would add. A diagnostic, never ranked by.",
  ),
  numeric(
    "printed",
    "Paper",
    1,
    "The published figure, only where it was obtained under this protocol. Most papers print the best epoch on test.",
  ),
  numeric("difference", "Δ paper", 1, "Ours minus the paper's.", { cell: (row) => signed(row.difference) }),
  textual("verified", "Figure seen", "Whether the paper's figure was found at its source.", (row) =>
    known(row.verified) ? (row.verified ? "yes" : "no") : "",
  ),
  numeric(
    "seconds",
    "Cost",
    -1,
    "Wall-clock of one run, evaluations and first stage included, on its device, which others may have shared.",
    {
      cell: (row) => duration(row.seconds),
      csv: (row) => ({ wall_s: row.seconds }),
    },
  ),
  textual("device", "Device", "What the first run was computed on.", (row) => row.device),
  textual("families", "Family", "In which families of the suite the recipe does more than plain training.", familyText),
  textual("network", "Network", "The backbone, and the head where it is more than a classifier.", (row) => row.network),
  numeric("year", "Year", 0, "Of the paper that the method is from.", {
    cell: (row) => (known(row.year) ? String(row.year) : ""),
    most: true,
  }),
  textual("dataset", "Data set", "What was trained on.", (row) => row.where.dataset),
  textual("factor", "Factor", "Images of the largest class over those of the smallest.", (row) =>
    fixed(row.where.factor, 0),
  ),
  textual(
    "protocol",
    "Protocol",
    "The training budget. Numbers of two protocols are never compared.",
    (row) => row.where.protocol,
  ),
  textual("track", "Track", "What is made harder than a long tail.", (row) => row.where.track),
];

/** Scores that only some tables have, such as those under label noise. */
const COMMON = [...COLUMNS.map(({ key }) => key), "best_on_test"];
for (const key of DATA.scores.filter((name) => !COMMON.includes(name))) {
  COLUMNS.push(numeric(key, sentence(key), 0, `${sentence(key)}: see the notes of its table.`));
}

const COLUMN = Object.fromEntries(COLUMNS.map((column) => [column.key, column]));
const WIDE = [
  "rank",
  "method",
  "n",
  "top1",
  "strip",
  "many",
  "medium",
  "few",
  "shape",
  "ece",
  "gap",
  "printed",
  "difference",
  "seconds",
  "year",
];
const NARROW = ["rank", "method", "top1", "many", "medium", "few", "shape"];
/** Scores that two rows, or two axes, can be compared by. */
const MEASURES = [
  "top1",
  "many",
  "medium",
  "few",
  "worst_class",
  "balanced",
  "harmonic",
  "ece",
  "gap",
  "seconds",
  "n",
  "year",
];

/** Missing values come last in either direction; equal ones stay in the order of the board. */
function sorted(rows, order) {
  const down = order.startsWith("-");
  const column = COLUMN[order.replace("-", "")] || COLUMN.top1;
  return [...rows].sort((one, other) => {
    const [a, b] = [column.value(one), column.value(other)];
    if (!known(a) || !known(b)) return Number(!known(a)) - Number(!known(b));
    const found = typeof a === "number" && typeof b === "number" ? a - b : shown.compare(a, b);
    return down ? -found : found;
  });
}

/** Objects as CSV, a line each, under all their keys. */
function asCsv(lines) {
  const heads = [...new Set(lines.flatMap(Object.keys))];
  return (
    [heads, ...lines.map((line) => heads.map((head) => line[head]))]
      .map((cells) => cells.map(csvCell).join(","))
      .join("\n") + "\n"
  );
}

/** Numbers as they are; text that no spreadsheet takes for a formula. */
function csvCell(value) {
  if (!known(value)) return "";
  if (typeof value === "number") return String(value);
  const text = /^\s*[=+\-@]/.test(value) ? `'${value}` : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
