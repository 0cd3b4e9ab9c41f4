// The figures of one row or a few of one split.

const HUNDRED = [0, 20, 40, 60, 80, 100];

/** Edges between the groups along the order of the classes, with a name for each part. */
function groupParts(split) {
  const parts = [];
  split.order.forEach((index, place) => {
    const name = split.groups[index];
    if (!parts.length || parts.at(-1).name !== name) parts.push({ name, from: place, to: place });
    parts.at(-1).to = place + 1;
  });
  return parts;
}

function groupMarks(split, box, edge) {
  return groupParts(split).map(({ name, from, to }) => [
    from > 0 && svg("line", { class: "divide", x1: edge(from), x2: edge(from), y1: box.top, y2: box.bottom }),
    edge(to) - edge(from) > 34 && label((edge(from) + edge(to)) / 2, box.top - 4, `${name} (${to - from})`),
  ]);
}

/** How many training images the classes have: an area on a logarithmic scale, under the accuracies. */
function sizes(split, box, edge) {
  const images = split.order.map((index) => split.train[index]);
  const most = Math.max(...images);
  const y = logarithmic([Math.max(0.7, Math.min(...images) / 1.6), most * 1.1], [box.bottom, box.top]);
  const outline = stairs(images, edge, y).map(([x, top]) => `L${x.toFixed(1)} ${top.toFixed(1)}`);
  const d = `M${edge(0)} ${box.bottom}${outline.join("")}L${edge(images.length)} ${box.bottom}Z`;
  return svg("path", { class: "sizes", d });
}

/**
 * A drawing over the classes of a split, the largest first, with a cursor that reads them: `describe(place)` gives what
 * it says, `content(box, edge, y)` what is drawn, where `edge(k)` is the left end of the place k.
 */
function overClasses(split, { height, range, values, text, name, describe }, content) {
  const count = split.order.length;
  const readout = el("p", { class: "readout" }, "Point at a class, or use the arrow keys.");
  const images = (place) => split.train[split.order[place]];
  const draw = (width) => {
    const box = frame(width, height, { top: 20 });
    const edge = linear([0, count], [box.left, box.right]);
    const y = linear(range, [box.bottom, box.top]);
    const chart = canvas(
      box,
      "",
      content(box, edge, y),
      groupMarks(split, box, edge),
      xAxis(box, edge, [], "classes, by number of training images"),
      label(box.left, box.bottom + 14, plural(images(0), "image"), "start"),
      label(box.right, box.bottom + 14, String(images(count - 1)), "end"),
    );
    chart.prepend(svg("g", {}, yAxis(box, y, values, text)));
    return withCursor(chart, box, count, describe, readout, name);
  };
  return [drawn(draw, { set: { "min-height": `${height}px` } }), readout];
}

function classBar(kind, edge, place, top, bottom) {
  const width = edge(place + 1) - edge(place);
  return svg("rect", {
    class: `bar ${kind}`,
    x: edge(place),
    width: width > 6 ? width - 1 : Math.max(0.5, width),
    y: top,
    height: bottom - top,
  });
}

const className = (split, place) =>
  `${split.names[split.order[place]]}, ${plural(split.train[split.order[place]], "training image")}`;

/** Accuracy of every class: bars of the first row, lines of all others. */
function classFigure(rows, height = 230) {
  const { split } = rows[0];
  const names = rows.map((row) => row.method);
  const along = (row) => split.order.map((index) => row.accuracyOfClasses[index]);
  const describe = (place) => {
    const read = (row) => `${row.method} ${fixed(along(row)[place], 1) || MISSING} %`;
    return `${className(split, place)}: ${rows.map(read).join(", ")}`;
  };
  const content = (box, edge, y) => [
    sizes(split, box, edge),
    along(rows[0]).map((value, k) => known(value) && classBar("one", edge, k, y(value), box.bottom)),
    rows.slice(1).map((row, k) => path(stairs(along(row), edge, y), { class: `line ${SERIES[k + 1]}` })),
  ];
  const name = `Accuracy by class of ${names.join(" and ")}`;
  const axis = { height, range: [0, 100], values: HUNDRED, name, describe };
  return [rows.length > 1 && legend(names), overClasses(split, axis, content)];
}

/** Many, medium and few: the mean over the seeds, its interval, and that of the row behind. */
function groupFigure(row, behind) {
  const scores = ["top1", ...GROUPS].filter((name) => known(row[name]));
  const readings = scores.map((name) => ({ name, ...meanInterval(row.full.runs.map((run) => run.scores[name])) }));
  const spoken = readings
    .map(({ name, mean: value, half }) => `${COLUMN[name].title} ${fixed(value)}${plusMinus(half)}`)
    .join(", ");
  const draw = (width) => {
    const box = frame(width, 190, { left: 58, top: 4, right: 100 });
    const y = (k) => box.top + ((box.bottom - box.top) * (k + 0.5)) / scores.length;
    const x = linear([0, 100], [box.left, box.right]);
    const bar = ({ name, mean: value, half }, k) => [
      label(box.left - 8, y(k) + 4, COLUMN[name].title, "end", "name"),
      svg("rect", { class: "bar one", x: box.left, width: x(value) - box.left, y: y(k) - 9, height: 18 }),
      known(half) &&
        svg("line", {
          class: "whisker",
          x1: x(Math.max(0, value - half)),
          x2: x(Math.min(100, value + half)),
          y1: y(k),
          y2: y(k),
        }),
      behind &&
        known(behind[name]) &&
        svg("line", { class: "line two", x1: x(behind[name]), x2: x(behind[name]), y1: y(k) - 12, y2: y(k) + 12 }),
      label(box.right + 8, y(k) + 4, fixed(value) + plusMinus(half), "start", "name"),
    ];
    return canvas(box, spoken, readings.map(bar), xAxis(box, x, HUNDRED, "accuracy, %"));
  };
  return [behind && legend([row.method, behind.method]), drawn(draw, { set: { "min-height": "190px" } })];
}

/** Accuracy against confidence in bins, with the share of predictions in each. */
function reliabilityFigure(row) {
  if (!row.bins[0].length) return el("p", { class: "small" }, "No confidences are known.");
  const error = known(row.ece) ? `calibration error ${fixed(row.ece)} %` : "the scores are no probabilities";
  const percent = (value) => `${100 * value}`;
  const draw = (width) => {
    const box = frame(Math.min(width, 320), 230);
    const [x, y] = [linear([0, 1], [box.left, box.right]), linear([0, 1], [box.bottom, box.top])];
    return canvas(
      box,
      `Reliability: ${error}`,
      yAxis(box, y, [0, 0.5, 1], percent),
      row.bins[0].map((number, k) => number > 0 && reliabilityBin(row.bins, k, box, x, y)),
      svg("line", { class: "diagonal", x1: x(0), x2: x(1), y1: y(0), y2: y(1) }),
      xAxis(box, x, [0, 0.5, 1], "confidence, %", percent),
    );
  };
  const said = `Reliability: ${error}. Orange: the gap; dark, below: the share of the predictions.`;
  return [el("p", { class: "small" }, said), drawn(draw, { set: { "min-height": "230px" } })];
}

function reliabilityBin([count, correct, confidence], k, box, x, y) {
  const [from, to] = [x(k / count.length) + 0.5, x((k + 1) / count.length) - 0.5];
  const accuracy = correct[k] / count[k];
  const share = (20 * count[k]) / count.reduce((sum, number) => sum + number, 0);
  const bar = (kind, top, bottom) =>
    svg("rect", { class: kind, x: from, width: to - from, y: top, height: bottom - top });
  return [
    bar("bar one", y(accuracy), box.bottom),
    bar("miss", y(Math.max(accuracy, confidence[k])), y(Math.min(accuracy, confidence[k]))),
    bar("share", box.bottom - share, box.bottom),
  ];
}

/** Top-1 on the test images and the training loss, epoch by epoch, as means over the seeds. */
function curveFigure(row) {
  const [[epochs, top1], [lossEpochs, loss]] = [row.accuracy, row.loss];
  if (!epochs.length && !lossEpochs.length) return el("p", { class: "small" }, "No curve is known.");
  const last = Math.max(1, ...epochs, ...lossEpochs);
  const losses = loss.filter(known);
  const draw = (width) => {
    const box = frame(width, 230, { right: losses.length ? 40 : 10 });
    const x = linear([0, last], [box.left, box.right]);
    const y = linear([0, Math.max(10, ...top1) * 1.08], [box.bottom, box.top]);
    const most = Math.max(...losses) * 1.05;
    const z = linear([0, most], [box.bottom, box.top]);
    const pairs = (at, values, scale) =>
      at.flatMap((epoch, k) => (known(values[k]) ? [[x(epoch), scale(values[k])]] : []));
    const points = pairs(epochs, top1, y);
    return canvas(
      box,
      `Top-1 after the last epoch ${fixed(top1.at(-1), 1)} %, loss ${fixed(losses.at(-1), 3)}`,
      yAxis(box, y, ticks(0, Math.max(10, ...top1))),
      losses.length &&
        ticks(0, most, 4).map((value) => label(box.right + 6, z(value) + 4, String(value), "start", "tick two")),
      losses.length && path(pairs(lossEpochs, loss, z), { class: "line two", "stroke-dasharray": DASHES[1] }),
      path(points, { class: "line one" }),
      points.length < 60 && points.map(([cx, cy]) => svg("circle", { class: "dot", cx, cy, r: 2 })),
      xAxis(box, x, ticks(0, last), "epoch"),
    );
  };
  return [
    legend(losses.length ? ["test top-1, %", "training loss"] : ["test top-1, %"]),
    drawn(draw, { set: { "min-height": "230px" } }),
  ];
}

/** Every seed, the mean and its interval. */
function seedFigure(row) {
  const values = row.full.runs.map((run) => run.scores.top1);
  const draw = (width) => {
    const box = frame(width, 74, { left: 14, right: 14, top: 8, bottom: 34 });
    const half = row.interval || 0;
    const [low, high] = [Math.min(...values, row.top1 - half), Math.max(...values, row.top1 + half)];
    const x = linear([low - 0.4, high + 0.4], [box.left, box.right]);
    const y = (box.top + box.bottom) / 2;
    return canvas(
      box,
      `Top-1 of the seeds: ${values.map((value) => fixed(value)).join(", ")}`,
      half > 0 &&
        svg("rect", {
          class: "band",
          x: x(row.top1 - half),
          width: x(row.top1 + half) - x(row.top1 - half),
          y: y - 11,
          height: 22,
        }),
      svg("line", { class: "line one", x1: x(row.top1), x2: x(row.top1), y1: y - 12, y2: y + 12 }),
      values.map((value) => svg("circle", { class: "dot", cx: x(value), cy: y, r: 4 })),
      xAxis(box, x, ticks(low - 0.4, high + 0.4, 5), "top-1, %"),
    );
  };
  return drawn(draw, { set: { "min-height": "74px" } });
}
