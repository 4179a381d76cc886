// Ax's analyses: each card is fetched when it is made, and drawn when it comes into view.
import {$, all, el, getJSON, send, plot, onChange, singleFlight, toast, ago, number} from "../app.js";

const root = $("#ax"), api = root.dataset.api;
const shown = new Map();  // key -> {version, time, box, reason}
const HEADINGS = ["Results", "Insights", "Diagnostics", "Experiment"];

const seen = new IntersectionObserver(entries => {
  for (const {isIntersecting, target} of entries) if (isIntersecting) {
    seen.unobserve(target);
    plot(target, target.pending, {modeBarButtonsToRemove: ["sendDataToCloud", "lasso2d", "select2d", "autoScale2d"]});
  }
}, {rootMargin: "300px"});

function table({columns, rows, of}) {
  const body = rows.map(row => el("tr", {}, ...row.map(v => el("td", {class: typeof v === "number" ? "n" : null},
    v === null ? "" : typeof v === "number" ? (Number.isInteger(v) ? String(v) : number(v)) : String(v)))));
  return el("div", {class: "scroll ax-table", tabindex: "0"},
    el("table", {class: "data"}, el("thead", {}, el("tr", {}, ...columns.map(c => el("th", {scope: "col"}, c.replaceAll("_", " "))))), el("tbody", {}, ...body)),
    rows.length < of ? el("p", {class: "soft"}, `The latest ${rows.length} of ${of} rows.`) : null);
}

function leaf(card) {
  const box = el("article", {class: "card ax-card"}, el("h4", {}, card.title));
  if (card.subtitle) {
    const long = card.subtitle.length > 160;
    box.append(long
      ? el("details", {class: "soft"}, el("summary", {}, `${card.subtitle.slice(0, 120).trimEnd()}…`), el("p", {}, card.subtitle))
      : el("p", {class: "soft"}, card.subtitle));
  }
  if (card.kind === "figure") {
    const picture = el("div", {class: "plot", role: "img", "aria-label": card.title});
    const layout = {autosize: true, ...card.figure.layout};
    layout.margin = {l: 60, r: 20, t: 20, b: 55, ...layout.margin, t: layout.legend ? 40 : 20};
    for (const axis of ["xaxis", "yaxis"]) layout[axis] = {automargin: true, ...layout[axis]};
    picture.pending = {data: card.figure.data, layout};
    if (card.figure.data.length > 12) picture.classList.add("tall");
    box.append(picture);
    seen.observe(picture);
  } else if (card.kind === "table") {
    box.append(table(card.table));
  } else if (card.kind === "check") {
    box.querySelector("h4").prepend(el("span", {class: "pill", "data-state": {pass: "good", warning: "warn", fail: "bad"}[card.status] || "info"}, card.status), " ");
  } else if (card.text) {
    box.append(el("p", {class: "ax-text"}, card.text));
  }
  return box;
}

function place(cards) {
  const groups = $("#ax-groups");
  for (const heading of HEADINGS) {
    if (!cards.some(card => card.group === heading)) continue;
    if (!$(`[data-group="${heading}"]`, groups)) {
      groups.append(el("section", {"data-group": heading}, el("h3", {}, heading), el("div", {class: "grid"})));
    }
  }
}

async function show(card) {
  const told = card.analysis ?? await getJSON(`${api}/cards/${card.file}`);
  const box = el("div", {class: "ax-analysis", "data-key": card.key, "data-state": told.cards.length ? "done" : "none"}, ...told.cards.map(leaf));
  const known = shown.get(card.key);
  if (known?.box.isConnected) {
    for (const old of all(".js-plotly-plot", known.box)) window.Plotly.purge(old);
    known.box.replaceWith(box);
  } else {
    $(`[data-group="${card.group}"] .grid`).append(box);
  }
  shown.set(card.key, {version: `${card.file}@${card.time}`, time: card.time, box, reason: told.reason});
}

function progress(told) {
  const done = told.cards.filter(card => card.state === "done"), now = told.cards.find(card => card.state === "computing");
  const newest = Math.max(0, ...done.map(card => card.time));
  $("#ax-age").textContent = now
    ? `computing “${now.title}”, ${done.length} of ${told.cards.length} done`
    : told.state === "interrupted" ? "the process that computed them died; Recompute begins again"
    : newest ? `${done.length} analyses, computed ${ago(newest * 1000)}${told.stale ? "; results have come since, and they will be made anew" : ""}` : "";
  $("#ax-again").disabled = Boolean(now);
  const missing = $("#ax-missing");
  const none = told.cards.filter(card => shown.get(card.key)?.reason);
  missing.replaceChildren(...(none.length ? [el("details", {class: "soft"},
    el("summary", {}, `${none.length} ${none.length > 1 ? "analyses are" : "analysis is"} not available`),
    el("ul", {}, ...none.map(card => el("li", {}, el("b", {}, card.title), `: ${shown.get(card.key).reason}`))))] : []));
}

let read = $("#ax-experiment").dataset.read, asked = 0, timer;

/** Ask for the analyses, where they are older than the trials and whoever looks may ask. */
async function ask(quiet) {
  if (quiet && Date.now() - asked < 60000) return;
  asked = Date.now();
  try {
    await send("POST", `${api}/cards`, {});
    if (!quiet) toast("The analyses are being made anew.");
  } catch (error) {
    if (!quiet) toast(error);
  }
}

const look = singleFlight(async () => {
  // what is not shown yet comes along, so that a first load is one request
  const newest = Math.max(0, ...[...shown.values()].map(card => card.time));
  const told = await getJSON(`${api}/cards?since=${newest}`);
  const now = (told.read || "") + (told.error ? "!" : "");
  if (now !== read) {
    read = now;
    window.htmx.trigger("#ax-experiment", "ax:experiment");
  }
  if (told.stale && !["computing", "interrupted"].includes(told.state)) await ask(true);
  clearTimeout(timer);
  if (told.stale !== undefined && (told.stale || told.state === "computing")) timer = setTimeout(look, 2000);
  if (!told.experiment) return;
  $("#ax-cards").hidden = false;
  const capped = $("#ax-capped");
  capped.hidden = !told.experiment.capped;
  capped.textContent = `Analyses are made of the latest ${told.experiment.arms - told.experiment.capped} arms; ${told.experiment.capped} older ones are in the table of trials only.`;
  place(told.cards);
  progress(told);
  for (const card of told.cards) {
    const known = shown.get(card.key);
    known?.box.classList.toggle("stale", card.state !== "done");
    if (card.state === "done" && known?.version !== `${card.file}@${card.time}`) await show(card);
  }
  const keys = new Set(told.cards.map(card => card.key));
  for (const [key, {box}] of shown) if (!keys.has(key)) { box.remove(); shown.delete(key); }
  progress(told);
  root.dataset.done = String(told.cards.filter(card => card.state === "done").length);
  root.dataset.state = told.state;
});
onChange(look);
$("#ax-again").addEventListener("click", () => ask(false).then(look));
