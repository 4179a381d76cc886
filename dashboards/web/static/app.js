// What every page can do: follow the event stream, ask the REST service, tell of problems, switch
// the theme, move by keys, and write formulas and numbers. Pages import from here.

export const $ = (selector, root = document) => root.querySelector(selector);
export const all = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element: el("p", {class: "soft"}, "text", child). Texts are never read as HTML. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}

// --- the REST service

export class Problem extends Error {
  constructor(status, document_) {
    super(document_.title || `status ${status}`);
    this.status = status;
    this.problem = document_;
  }
}

const toLogin = () => { location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`; };

async function answered(response) {
  const kind = response.headers.get("content-type") || "";
  const told = kind.includes("json") ? await response.json() : await response.text();
  if (response.ok) return told;
  if (response.status === 401) toLogin();
  throw new Problem(response.status, typeof told === "object" ? told : {title: `${response.status} ${response.statusText}`});
}

/** GET JSON. */
export const getJSON = async (path, options = {}) =>
  answered(await fetch(path, {headers: {Accept: "application/json"}, ...options}));

/** Change something: send("POST", "/v1/...", {...}, {"If-Match": "3"}). Throws Problem. */
export async function send(method, path, body, headers = {}) {
  const form = body instanceof FormData;
  return answered(await fetch(path, {
    method,
    headers: {
      Accept: "application/json",
      "Idempotency-Key": newKey(),
      ...(form || body === undefined ? {} : {"Content-Type": "application/json"}),
      ...headers,
    },
    body: form ? body : body === undefined ? undefined : JSON.stringify(body),
  }));
}

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map(b => b.toString(16).padStart(2, "0")).join("");
}

/** Ask the engine for proposals, and tell in `says` how far it is: the numbers of the new trials. */
export async function proposals(campaign, body, says) {
  const base = `/v1/campaigns/${campaign}`;
  const {job} = await send("POST", `${base}/proposals`, body);
  says.textContent = "asked…";
  try {
    for (let turn = 0; ; turn++) {
      const {status, result} = await getJSON(`${base}/jobs/${job}`);
      says.textContent = {queued: "waits for the engine…", running: "the engine is thinking…"}[status] ?? "";
      if (status === "failed") throw new Problem(422, {title: result?.what ?? "nothing was proposed", detail: result?.why, hint: result?.hint});
      if (status === "done") return result?.trials ?? [];
      await new Promise(done => setTimeout(done, Math.min(500 + 100 * turn, 3000)));
    }
  } finally {
    says.textContent = "";
  }
}

/** Tell briefly of something; an Error is told with its reason and hint. */
export function toast(what, kind = "good") {
  const problem = what instanceof Problem ? what.problem : null;
  const box = el("div", {class: `toast ${what instanceof Error ? "error" : kind}`, role: what instanceof Error ? "alert" : "status"});
  if (problem) {
    box.append(el("p", {}, el("b", {}, problem.title || "it was refused"), problem.detail ? `: ${problem.detail}` : ""));
    for (const error of (problem.errors || []).slice(0, 5)) box.append(el("p", {}, [error.where, error.what].filter(Boolean).join(": ")));
    if (problem.unchanged) box.append(el("p", {class: "soft"}, `Unchanged: ${problem.unchanged}`));
    if (problem.hint) box.append(el("p", {}, `Hint: ${problem.hint}`));
  } else {
    box.append(el("p", {}, what instanceof Error ? what.message : what));
  }
  $("#toasts").append(box);
  setTimeout(() => box.remove(), what instanceof Error ? 15000 : 4000);
}

// --- one stream that says that something changed, and what then happens

const listeners = new Set();

/** Run at most one at a time; asked again meanwhile, once more at the end. */
export function singleFlight(work) {
  let busy = false, again = false;
  return async function run(...args) {
    if (busy) { again = true; return; }
    busy = true;
    try {
      do { again = false; await work(...args); } while (again);
    } catch (error) {
      if (error.name !== "AbortError") console.warn(error);
    } finally {
      busy = false;
    }
  };
}

/** Call `work(rev)` now and after every change; calls never overlap. Returns how to end it. */
export function onChange(work, {now = true} = {}) {
  const guarded = singleFlight(work);
  listeners.add(guarded);
  if (now) guarded();
  return () => listeners.delete(guarded);
}

function changed(rev) {
  document.body.dataset.rev = rev ?? "";
  for (const work of listeners) work(rev);
  document.body.dispatchEvent(new CustomEvent("matloop:changed", {detail: {rev}}));
}

let settle;
function heard(rev) {  // a burst of events is one change
  clearTimeout(settle);
  settle = setTimeout(() => changed(rev), 150);
}

function connection(lost) {
  const box = $("#live");
  box.hidden = !lost;
  box.textContent = lost ? "connection lost, trying again…" : "";
  document.body.dataset.live = lost ? "lost" : "on";
}

// Browsers allow six connections to a host over HTTP/1.1: of several tabs on one stream, one holds
// it and tells the others.
function follow(url) {
  const between = new BroadcastChannel(`matloop:${url}`);
  between.onmessage = event => heard(event.data);
  const connect = () => {
    const source = new EventSource(url);
    // what happened while there was no connection is fetched when there is one again
    source.onopen = () => { if (document.body.dataset.live) heard(document.body.dataset.rev); connection(false); };
    source.onmessage = event => {
      const {rev} = JSON.parse(event.data);
      heard(rev);
      between.postMessage(rev);
    };
    source.onerror = () => {
      connection(true);
      // a browser gives up after an answer that is no stream: the service may be starting again
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    };
  };
  const hold = () => new Promise(connect);  // for as long as the tab lives
  if (navigator.locks) navigator.locks.request(`matloop:${url}`, hold); else hold();
}

// --- theme

/** "dark" or "light", as it is shown. */
export function theme() {
  return document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}
function switchTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  document.cookie = `theme=${next};path=/;max-age=31536000;samesite=strict`;
  document.dispatchEvent(new CustomEvent("matloop:theme"));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new CustomEvent("matloop:theme")));

/** A colour of the page: css("--front"). */
export const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// --- what the address keeps

/** Read a value that the address holds: state.get("x"), state.all("sel"). */
export const state = {
  get: (key, otherwise = null) => new URLSearchParams(location.search).get(key) ?? otherwise,
  all: key => new URLSearchParams(location.search).getAll(key),
  /** Keep values in the address, so that a link shows the same: null removes. */
  set(values) {
    const query = new URLSearchParams(location.search);
    for (const [key, value] of Object.entries(values)) {
      query.delete(key);
      for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== "") query.append(key, one);
    }
    history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}${location.hash}`);
  },
};

// --- words and numbers (as dashboards/typography.py)

const MINUS = "\u2212";
/** A number to so many digits, with a true minus. */
export function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size >= 1e6 || size < 1e-3) ? value.toExponential(Math.max(digits - 2, 1)) : String(Number(value.toPrecision(digits)));
  return text.replace(/-/g, MINUS);
}
/** A value with its error, the digits that the error allows: 12.3 ± 0.4. */
export function withError(value, error) {
  if (!Number.isFinite(value) || !Number.isFinite(error) || error <= 0) return number(value);
  const places = Math.min(8, Math.max(0, 1 - Math.floor(Math.log10(error))));
  return `${value.toFixed(places)} ± ${error.toFixed(places)}`.replace(/-/g, MINUS);
}
const RAISED = {"0": "⁰", "1": "¹", "2": "²", "3": "³", "4": "⁴", "5": "⁵", "6": "⁶", "7": "⁷", "8": "⁸", "9": "⁹", "-": "⁻"};
const UNITS = {angstrom: "Å", dimensionless: "", degree: "°", percent: "%", ohm: "Ω", micrometer: "µm", degC: "°C"};
/** A unit in print: g/cm^3 is g/cm³. */
export const unit = text => (text || "")
  .replace(/\s*(?:\*\*|\^)\s*\+?(-?\d+)/g, (_, n) => [...n].map(c => RAISED[c]).join(""))
  .replace(/[A-Za-z]+/g, word => UNITS[word] ?? word).replace(/\s*\*\s*/g, "·");
export const quantity = (value, of, error) => `${error === undefined ? number(value) : withError(value, error)}\u00a0${unit(of)}`.trim();
/** A metric as words, with its unit: bulk modulus (GPa). */
export const label = (metric, of) => metric.replace(/_/g, " ") + (unit(of) ? ` (${unit(of)})` : "");
/** A formula (or a name that begins with one) as plain text with lowered numbers. */
export const formulaText = text => {
  const [head, ...tail] = (text || "unnamed design").split(" ");
  const plain = /^(?:[A-Z][a-z]?\d*(?:\.\d+)?|[()]\d*)+$/.test(head);
  return [plain ? head.replace(/\d/g, d => "₀₁₂₃₄₅₆₇₈₉"[d]) : head, ...tail].join(" ");
};
/** So many of something: 1 trial, 10,000 trials. */
export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
/** How long ago a time is. */
export function ago(time) {
  const seconds = (Date.now() - new Date(time).getTime()) / 1000;
  if (!(seconds > -60)) return "";
  for (const [size, word] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
    const count = Math.floor(seconds / size);
    if (count >= 1) return `${plural(count, word)} ago`;
  }
  return "just now";
}
export function refreshAges(root = document) {
  for (const node of all("time[datetime]", root)) {
    const said = ago(node.dateTime);
    if (said) { node.title ||= node.textContent; node.textContent = said; }
  }
}

// --- plots

const drawn = new Set();
const sizes = new ResizeObserver(entries => {
  for (const {target} of entries) {
    const shown = target._fullLayout && target.isConnected && target.clientWidth;
    if (shown && Math.abs(target.clientWidth - target._fullLayout.width) > 1) window.Plotly.Plots.resize(target);
  }
});

/** Draw a plotly figure {data, layout} (or change what is drawn), in the page's colours. */
export async function plot(box, figure, config = {}) {
  if (!window.Plotly) await new Promise(done => addEventListener("load", done, {once: true}));
  const {data, layout} = themed(figure);
  const first = !box.classList.contains("js-plotly-plot");
  if (first) box.replaceChildren();
  box.figure = figure;
  await window.Plotly.react(box, data, layout, {
    displaylogo: false, showSendToCloud: false,
    modeBarButtonsToRemove: ["sendDataToCloud", "lasso2d", "select2d", "autoScale2d"], ...config,
  });
  drawn.add(box);
  sizes.observe(box);
  box.dataset.drawn = String((Number(box.dataset.drawn) || 0) + 1);
  return first;
}

// A trace may say by meta.colour which of the page's colours it has ("front", "ok", ...): so one
// figure serves a light page, a dark one and a notebook.
function themed(figure) {
  const ink = css("--ink"), soft = css("--soft"), rule = css("--rule"), bg = css("--bg");
  const data = (figure.data || []).map(trace => {
    const role = trace.meta && trace.meta.colour;
    if (!role) return trace;
    const colour = css(`--${role}`);
    const made = {...trace};
    if (trace.marker && (trace.marker.color === undefined || typeof trace.marker.color === "string")) {
      made.marker = {...trace.marker, color: colour};
      if (trace.marker.line) made.marker.line = {...trace.marker.line, color: trace.meta.hollow ? colour : bg};
    }
    if (trace.line) made.line = {...trace.line, color: colour};
    if (trace.error_x) made.error_x = {...trace.error_x, color: soft};
    if (trace.error_y) made.error_y = {...trace.error_y, color: soft};
    if (trace.textfont) made.textfont = {...trace.textfont, color: ink};
    return made;
  });
  const axis = {gridcolor: rule, zerolinecolor: rule, linecolor: soft, tickcolor: soft, automargin: true};
  const wall = {gridcolor: rule, zerolinecolor: rule, color: soft, backgroundcolor: "rgba(0,0,0,0)"};
  const template = {layout: {
    xaxis: axis, yaxis: axis, scene: {xaxis: wall, yaxis: wall, zaxis: wall},
    colorway: ["--ok", "--front", "--open", "--failed", "--soft"].map(css),
    hoverlabel: {bgcolor: ink, font: {color: bg}, bordercolor: ink},
    colorscale: {sequential: "Viridis", diverging: "RdBu"}, legend: {bgcolor: "rgba(0,0,0,0)"},
  }};
  const layout = {...figure.layout, template, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)"};
  layout.font = {...layout.font, color: ink, family: "system-ui,sans-serif"};
  if (layout.shapes) layout.shapes = layout.shapes.map(s => {
    const colour = s.name ? css(`--${s.name}`) || soft : soft;
    return {...s, line: {...s.line, color: colour}, ...(s.type === "rect" ? {fillcolor: colour} : {})};
  });
  return {data, layout};
}
document.addEventListener("matloop:theme", () => { for (const box of drawn) if (box.isConnected) plot(box, box.figure); else drawn.delete(box); });

/** Draw every [data-plot] of the page from the JSON figure at that address, again after changes. */
function followPlots() {
  for (const box of all("[data-plot]")) {
    if (box.followed) continue;
    box.followed = true;
    onChange(async () => {
      try {
        const figure = await getJSON(box.dataset.plot);
        if (figure.empty === undefined) { await plot(box, figure); return; }
        if (box.classList.contains("js-plotly-plot")) window.Plotly.purge(box);
        box.classList.remove("js-plotly-plot");
        box.replaceChildren(el("p", {class: "empty"}, `${figure.empty[0].toUpperCase()}${figure.empty.slice(1)}.`));
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        box.replaceChildren(el("p", {class: "empty"}, error.problem.detail || error.problem.title));
        box.classList.remove("js-plotly-plot");
      }
    });
  }
}

/** Whether this browser draws with WebGL. */
export function hasWebGL() {
  try {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  } catch {
    return false;
  }
}

// --- keys

const typing = target => target.closest("input,select,textarea,[contenteditable]");
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || $("dialog[open]")) return;
  if (event.key === "t") switchTheme();
  if (event.key === "?") $("#key-help").showModal();
  const table = event.target.closest("[data-keys]") || $("[data-keys]");
  if (!table) return;
  const rows = all("tbody tr[tabindex]", table).filter(row => !row.hidden);
  const at = rows.indexOf(event.target.closest("tr"));
  if (event.key === "j" || event.key === "k") {
    const row = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + (event.key === "j" ? 1 : -1)))];
    row?.focus();
    row?.dispatchEvent(new CustomEvent("matloop:row", {bubbles: true}));
  }
  if (event.key === "Enter" && at >= 0 && event.target === rows[at]) $("a", rows[at])?.click();
});
$("#theme")?.addEventListener("click", switchTheme);
$("#keys")?.addEventListener("click", () => $("#key-help").showModal());

// A part that htmx fetches again must not take the focus away from who types in it or reads it.
document.body.addEventListener("htmx:afterSwap", event => { refreshAges(event.target); followPlots(); });
document.body.addEventListener("htmx:responseError", event => {
  if (event.detail.xhr.status === 401) toLogin();
});
// on a telephone the screens are a row: the one that is shown is in view
const here = $(".screens [aria-current]");
if (here) here.parentElement.scrollLeft = here.offsetLeft + (here.offsetWidth - here.parentElement.clientWidth) / 2;
refreshAges();
setInterval(refreshAges, 30000);
followPlots();
if (document.body.dataset.stream) follow(document.body.dataset.stream);
document.body.dataset.ready = "1";
