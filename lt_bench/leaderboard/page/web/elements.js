// Elements from plain values. Text only ever becomes text: nothing on this page is parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (name === "set") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (name === "is") Object.assign(node, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element. `on` are listeners, `set` style properties, `is` properties of the node, all others attributes. */
const el = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);

/** An SVG element, likewise. */
const svg = (tag, properties = {}, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

const byId = (id) => document.getElementById(id);

/** Told to screen readers, and shown nowhere. */
function say(text) {
  byId("said").textContent = text;
}

const MISSING = "–";
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const fixed = (value, digits = 2) => (known(value) ? value.toFixed(digits).replace("-", "−") : "");
const plusMinus = (half) => (known(half) ? ` ± ${fixed(half)}` : "");
const signed = (value, digits = 2) => (known(value) ? (value > 0 ? "+" : "") + fixed(value, digits) : "");
const sentence = (name) => name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
const plural = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

function duration(seconds) {
  if (!known(seconds)) return "";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function button(text, click, properties = {}) {
  return el("button", { type: "button", ...properties, on: { click } }, text);
}

/** Copies text, also from a file, where the clipboard may be closed to scripts. */
async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "unseen", is: { value: text } });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`${what} copied`);
}

function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** A drawing that is made again whenever the width of its place changes: `draw(width)` gives an SVG. */
function drawn(draw, properties = {}) {
  const place = el("div", { ...properties, class: `drawing ${properties.class || ""}` });
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now === width || now < 10) return;
    width = now;
    place.replaceChildren(draw(width));
  }).observe(place);
  return place;
}
