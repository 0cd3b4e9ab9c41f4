// What stands behind a row: figures, the paper's numbers, the command, the records.

function showDetails(row) {
  const behind = row.baseline && row.baseline.split === row.split ? row.baseline : null;
  const both = behind ? [row, behind] : [row];
  return el(
    "article",
    { class: "details", "aria-label": `Details of ${row.method}` },
    detailsHead(row),
    el(
      "div",
      { class: "figures" },
      block("Accuracy by class", "wide", classFigure(both), sizesNote(row)),
      el(
        "div",
        {},
        block("Groups", "", groupFigure(row, behind)),
        block("Seeds", "", seedFigure(row), intervalNote(row)),
      ),
      block("Reliability", "", reliabilityFigure(row)),
      block("Curve", "", curveFigure(row)),
    ),
    block("The paper's figures", "", paperTable(row)),
    block("To repeat it", "", repeating(row)),
    block("Runs", "", runTable(row)),
  );
}

function block(title, kind, ...content) {
  return el("section", { class: `block ${kind}` }, el("h3", {}, title), content);
}

function detailsHead(row) {
  const paper =
    row.paper &&
    (row.paper.link ? el("a", { href: row.paper.link, rel: "noreferrer" }, row.paper.cite) : row.paper.cite);
  return [
    el(
      "p",
      { class: "facts" },
      row.where.title,
      ". ",
      familyText(row),
      paper && [". ", paper],
      ".",
      row.changes.length > 0 && [" Changed on the command line: ", el("code", {}, row.changes.join(" ")), "."],
    ),
    row.superseded && el("p", { class: "note" }, `Superseded, not ranked: ${row.superseded}.`),
  ];
}

function sizesNote({ split }) {
  const [most, least] = [split.order[0], split.order.at(-1)].map((index) => split.train[index].toLocaleString("en"));
  return el("p", { class: "small" }, `Grey, behind: training images on a logarithmic scale, ${most} to ${least}.`);
}

function intervalNote(row) {
  if (row.n < 2) return el("p", { class: "small" }, "One seed: nothing is known of the spread, and nothing is ranked.");
  return el(
    "p",
    { class: "small" },
    `${fixed(row.top1)} ± ${fixed(row.interval)}: mean over ${row.n} seeds and its 95 % Student t interval.`,
  );
}

/** Ours minus the paper's, only where it is the same experiment. */
function paperTable(row) {
  if (!row.figures.length)
    return el("p", { class: "small" }, "The recipe carries no published figure for this data set.");
  const columns = ["top1", ...GROUPS].filter((name) => row.figures.some((figure) => known(figure[name])));
  const same = (figure) =>
    figure.protocol === row.where.protocol &&
    (!known(figure.factor) || figure.factor === row.where.factor) &&
    !row.changes.length &&
    !row.superseded;
  const cell = (figure, name) => [
    fixed(figure[name]),
    same(figure) &&
      known(figure[name]) &&
      known(row[name]) &&
      el("span", { class: "pm" }, ` (${signed(row[name] - figure[name])})`),
  ];
  const line = (figure) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, figure.paper || "not named"),
      el(
        "td",
        {},
        [figure.protocol, known(figure.factor) && `factor ${figure.factor}`].filter(Boolean).join(", ") || "any",
      ),
      columns.map((name) => el("td", { class: "number" }, cell(figure, name))),
      el("td", {}, figure.verified ? "yes" : "no"),
    );
  return plainTable(
    ["Source", "Protocol", ...columns.map((name) => ofNumbers(COLUMN[name].title)), "Figure seen"],
    row.figures.map(line),
    "In parentheses: ours minus the paper's, under the same protocol and factor alone.",
  );
}

const ofNumbers = (title) => ({ number: title });

/** A small table. Heads are titles, or `ofNumbers` of them. */
function plainTable(heads, lines, caption, kind = "") {
  const title = (one) =>
    one.number ? el("th", { scope: "col", class: "number" }, one.number) : el("th", { scope: "col" }, one);
  const head = el(
    "tr",
    {},
    heads.map((one) => (one ? title(one) : el("td"))),
  );
  const table = el(
    "table",
    { class: `plain ${kind}` },
    el("caption", {}, caption),
    el("thead", {}, head),
    el("tbody", {}, lines),
  );
  return el("div", { class: "scroller", tabindex: 0, role: "group", "aria-label": caption }, table);
}

function repeating(row) {
  const several = new Set(row.runs.map((run) => run.made)).size > 1;
  const elsewhere = "Of the first seed; others were made elsewhere or by another version, see their records.";
  const fact = ([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))];
  const told = Object.entries(facts(row)).filter(([, value]) => known(value) && value !== "");
  const list = el("dl", {}, told.map(fact));
  return [
    commandLine(row),
    list,
    several && el("p", { class: "small" }, elsewhere),
    el("p", { class: "small" }, row.where.about),
  ];
}

function commandLine({ command, external }) {
  const records = "No command alone repeats this row; its records do: lt-bench run RECORD.json.";
  const none = external ? "Trained by another program, which this suite cannot run." : records;
  if (!command) return el("p", { class: "small" }, none);
  const click = () => copy(command, "Command");
  return el(
    "div",
    { class: "command" },
    el("code", { tabindex: 0 }, command),
    button("Copy", click, { "aria-label": "Copy the command" }),
  );
}

/** By what the first run of a row was made. */
function facts(row) {
  const { made, memory_mb } = row.full.runs[0];
  if (!made)
    return {
      "Trained by": row.external,
      Known: "its predictions alone; that it kept to the protocol is what they say",
    };
  const versions = ["torch", "torchvision", "numpy"].map((name) => `${name} ${made[name]}`).join(", ");
  const speed = Math.round(mean(row.full.runs.map((run) => run.images_per_s))).toLocaleString("en");
  return {
    Device: made.device === "cpu" ? made.cpu : `${made.device} (${made.cpu})`,
    Threads: made.threads,
    Precision: made.precision,
    Compiled: { false: "nothing", true: "yes" }[made.compile] || made.compile,
    Versions: `lt-bench ${made.benchmark}, Python ${made.python}, ${versions}, ${made.platform}`,
    Commit: made.commit && `${made.commit.slice(0, 12)}${made.dirty ? ", with changes that were not committed" : ""}`,
    Memory: known(memory_mb) ? `${Math.round(memory_mb).toLocaleString("en")} MB at most` : "",
    Speed: `${speed} training images a second, ${duration(row.seconds)} a run`,
  };
}

/** A name that is no text in Unicode is shown, but leads nowhere. */
const linkTo = (file) => `./${file.toWellFormed().split("/").map(encodeURIComponent).join("/")}`;

function runTable(row) {
  const file = (run) => {
    const { path: below, link } = DATA.folders[run.folder];
    return link === null
      ? el("code", {}, `${below}/${run.file}`)
      : el("a", { href: linkTo(`${link}/${run.file}`) }, run.file);
  };
  const line = (run) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", class: "number" }, String(run.seed)),
      ["top1", ...GROUPS, "worst_class", "ece"].map((name) => el("td", { class: "number" }, fixed(run.scores[name]))),
      el("td", { class: "number" }, duration(run.seconds)),
      el("td", {}, run.made ? run.made.device : ""),
      el("td", {}, ((run.made && run.made.commit) || "").slice(0, 12)),
      el("td", {}, run.created.slice(0, 10)),
      el("td", {}, file(run)),
    );
  return plainTable(
    [
      ...["Seed", "Top-1", "Many", "Medium", "Few", "Worst", "ECE", "Time"].map(ofNumbers),
      "Device",
      "Commit",
      "Made",
      "Record",
    ],
    row.full.runs.map(line),
    "Each run, in percent",
  );
}
