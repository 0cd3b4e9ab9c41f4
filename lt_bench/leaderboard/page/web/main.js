// Shows the state, and keeps what people hold on to: focus, scrolling, hints.

const PAPER_NOTE =
  "Percent at the last epoch, means over n seeds; ± half the 95 % interval; ↑ higher is better, ↓ lower.";

function show() {
  const focus = document.activeElement && document.activeElement.id;
  const scrolled = document.querySelector(".scroller") ? document.querySelector(".scroller").scrollLeft : 0;
  document.documentElement.classList.toggle("paper", Boolean(state.paper));
  showControls();
  const view = el("section", {
    id: "view",
    class: `view ${state.view}`,
    role: "tabpanel",
    "aria-labelledby": `tab-${state.view}`,
  });
  if (ROWS.length) VIEWS[state.view].show(view);
  else view.append(el("p", { class: "empty" }, "There are no records yet."));
  if (state.paper) view.append(el("p", { class: "small" }, PAPER_NOTE));
  byId("main").replaceChildren(view);
  fitTable();
  if (view.querySelector(".scroller")) view.querySelector(".scroller").scrollLeft = scrolled;
  if (focus && byId(focus) && byId(focus) !== document.activeElement) byId(focus).focus({ preventScroll: true });
  hideHint();
}

/** A table that fits needs no box to scroll in, and its head then stays in sight. */
function fitTable() {
  const place = document.querySelector(".table > .scroller");
  if (place) place.classList.toggle("fits", place.firstChild.offsetWidth <= place.clientWidth);
}

function showLead() {
  const runs = ROWS.reduce((sum, row) => sum + row.n, 0);
  byId("lead").append(` ${plural(ROWS.length, "method row")} from ${plural(runs, "run")}, each with its record.`);
}

// --- hints: one for the page, so that no table cuts it off -----------------------------------------------

function showHint(target) {
  const hint = byId("hint");
  hint.textContent = target.dataset.hint;
  hint.hidden = false;
  target.setAttribute("aria-describedby", "hint");
  const { left, bottom, top } = target.getBoundingClientRect();
  const { width, height } = hint.getBoundingClientRect();
  const below = bottom + 6 + height < innerHeight;
  fill(
    hint,
    {
      set: {
        left: `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`,
        top: `${below ? bottom + 6 : top - height - 6}px`,
      },
    },
    [],
  );
}

function hideHint() {
  byId("hint").hidden = true;
  document.querySelectorAll("[aria-describedby=hint]").forEach((one) => one.removeAttribute("aria-describedby"));
}

function hintOf(event) {
  const target = event.target.closest && event.target.closest("[data-hint]");
  hideHint();
  if (target) showHint(target);
}

// --- keys, the address, print ------------------------------------------------------------------------------

function onKey(event) {
  if (event.key === "Escape") {
    hideHint();
    if (state.paper) change({ paper: "" });
  }
  const writing = event.target.closest("input, select, textarea");
  if (event.key === "/" && !writing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    byId("filter-q").focus();
  }
}

function start() {
  for (const event of ["pointerover", "focusin"]) document.addEventListener(event, hintOf);
  document.addEventListener("focusout", hideHint);
  document.addEventListener("keydown", onKey);
  addEventListener("scroll", hideHint, { passive: true });
  addEventListener("resize", fitTable);
  addEventListener("popstate", () => {
    state = readHash();
    show();
  });
  addEventListener("beforeprint", () => {
    most = Infinity;
    show();
  });
  byId("skip").addEventListener("click", () => byId("main").focus());
  state = readHash();
  showLead();
  show();
}

start();
