// The front: any two or three metrics against each other, a weighting that picks one of the front,
// and one selected trial that table and plot share.

import {$, all, css, el, formulaText, hasWebGL, onChange, plot, plural, state} from "../app.js";
import {KINDS, axisTitle, cloud, gain, goalOf, loadTable, rangeOf, tip, trialCard, word} from "./table.js";

const campaign = document.body.dataset.campaign;
const box = $("#plot"), says = $("#plot-says"), form = $("#axes"), weights = $("#weights");
const MANY = 1500;  // of more open candidates, they are a cloud behind the others
const gl = hasWebGL();
let table = null, drawnAs = "";

function fillAxes() {
  const metrics = table.metrics.map(m => m.name);
  for (const [at, key] of ["x", "y", "z"].entries()) {
    const select = form[key];
    const chosen = select.dataset.filled ? select.value : state.get(key, key === "z" ? "" : metrics[at] ?? metrics[0]);
    const options = metrics.map(name => el("option", {value: name}, axisTitle(table, name)));
    select.replaceChildren(...(key === "x" ? [] : key === "z" ? [el("option", {value: ""}, "none")] : metrics.length < 2 ? [el("option", {value: ""}, "trial")] : []), ...options);
    if (key === "x" && metrics.length < 2) select.prepend(el("option", {value: "#"}, "trial"));
    select.value = [...select.options].some(o => o.value === chosen) ? chosen : select.options[0].value;
    select.dataset.filled = "1";
  }
  if (metrics.length < 2 && !state.get("x")) { form.x.value = "#"; form.y.value = metrics[0]; }
  form.z.closest("label").hidden = metrics.length < 3 || !gl;
}

const value = (metric, row, predicted) => {
  if (metric === "#") return table.columns.trial[row];
  const found = table.columns[`mean:${metric}`]?.[row] ?? null;
  return found ?? (predicted ? table.columns[`predicted:${metric}`]?.[row] ?? null : null);
};

function figure() {
  const axes = [form.x.value, form.y.value, form.z.value].filter(Boolean);
  const three = axes.length === 3 && gl;
  const groups = {};
  let nowhere = 0, shown = 0;
  for (let row = 0; row < table.n; row++) {
    const kind = word(table, "kind", row);
    if (kind === "abandoned" || !KINDS[kind]) continue;
    const foretold = kind === "open" || kind === "failed" || kind === "infeasible";
    if (foretold ? !form.predicted.checked : !form.measured.checked) continue;
    if (!form.infeasible.checked && (kind === "out" || kind === "failed" || kind === "infeasible")) continue;
    const at = axes.map(metric => value(metric, row, foretold));
    if (at.some(v => v === null)) { nowhere += 1; continue; }
    (groups[kind] ??= []).push([row, at]);
    shown += 1;
  }
  const many = (groups.open?.length ?? 0) > MANY && !three;
  const behind = many ? groups.open : null;
  const data = Object.entries(KINDS).filter(([kind]) => groups[kind]).map(([kind, look]) => {
    const quiet = many && kind === "open", rows = quiet ? [] : groups[kind];
    if (quiet) return {type: "scatter", mode: "markers", name: table.kinds.open, x: [null], y: [null], marker: {symbol: "square", size: 6}, hoverinfo: "skip", meta: {colour: "open", kind}};
    return {
      type: three ? "scatter3d" : "scatter", mode: "markers", name: table.kinds[kind] ?? kind,
      x: rows.map(([, at]) => at[0]), y: rows.map(([, at]) => at[1]), ...(three ? {z: rows.map(([, at]) => at[2])} : {}),
      customdata: rows.map(([row]) => row),
      text: rows.map(([row]) => tip(table, row, axes.filter(a => a !== "#"))), hoverinfo: "text",
      marker: {symbol: three ? {triangle: "diamond-open"}[look.symbol] ?? (look.symbol.includes("open") ? "circle-open" : look.symbol.startsWith("x") ? "x" : look.symbol.startsWith("diamond") ? "diamond" : "circle") : look.symbol, size: three ? look.size * 0.7 : look.size, opacity: 0.92, line: {width: look.symbol.includes("open") ? 1.6 : 1}},
      meta: {colour: look.colour, kind, hollow: look.symbol.includes("open") || look.symbol === "x"},
    };
  });
  if (!three && axes.length === 2 && !axes.includes("#")) stairs(data, axes);
  picked(data, axes, three);
  const layout = {
    margin: {l: 60, r: 10, t: 10, b: 50}, hovermode: "closest", uirevision: axes.join("|"), legend: {orientation: "h", y: 1.02, yanchor: "bottom"}, dragmode: three ? "orbit" : "zoom", shapes: [],
  };
  if (three) layout.scene = {xaxis: {title: {text: title(axes[0])}}, yaxis: {title: {text: title(axes[1])}}, zaxis: {title: {text: title(axes[2])}}, uirevision: axes.join("|")};
  else {
    const every = Object.values(groups).flat();
    // shapes would stretch axes that follow what is drawn
    const ranges = [0, 1].map(k => rangeOf(every.map(([, at]) => at[k]), many ? 0.05 : 0.08));
    layout.xaxis = {title: {text: title(axes[0])}, automargin: true, range: ranges[0]};
    layout.yaxis = {title: {text: title(axes[1])}, automargin: true, range: ranges[1]};
    layout.shapes = bounds(axes, ranges);
  }
  return {data, layout, shown, nowhere, behind, three};
}
const title = metric => metric === "#" ? "trial" : axisTitle(table, metric);

/** What the front beats, of two objectives that are maximised or minimised. */
function stairs(data, axes) {
  const goals = axes.map(metric => goalOf(table, metric));
  if (goals.some(g => !g || !["maximize", "minimize"].includes(g.goal)) || table.objectives.length !== 2) return;
  const front = data.find(trace => trace.meta.kind === "front");
  if (!front || front.x.length < 2) return;
  const sign = goals.map(g => g.goal === "maximize" ? 1 : -1);
  const points = front.x.map((x, i) => [x, front.y[i]]).sort((a, b) => sign[0] * (a[0] - b[0]));
  const x = [], y = [];
  points.forEach((point, i) => {
    if (i) { x.push(points[i - 1][0]); y.push(point[1]); }
    x.push(point[0]); y.push(point[1]);
  });
  data.unshift({type: "scatter", mode: "lines", x, y, hoverinfo: "skip", showlegend: false, line: {width: 1.5, dash: "dot"}, meta: {colour: "front", kind: "stairs"}});
}

/** What a metric must keep to: {low, high}, of its constraints, its threshold and its tolerance. */
function limits(metric) {
  const goal = goalOf(table, metric), lows = [], highs = [];
  for (const {metric: of, op, bound} of table.constraints) if (of === metric) (op === "<=" ? highs : lows).push(bound);
  if (goal?.threshold !== null && goal?.threshold !== undefined) (goal.goal === "minimize" ? highs : lows).push(goal.threshold);
  if (goal?.tolerance) { lows.push(goal.target - goal.tolerance); highs.push(goal.target + goal.tolerance); }
  return {low: lows.length ? Math.max(...lows) : null, high: highs.length ? Math.min(...highs) : null, target: goal?.target ?? null};
}

/** What is excluded on the axes shown, shaded up to the edge; its bounds and targets as lines. */
function bounds(axes, ranges) {
  const shapes = [];
  axes.forEach((metric, at) => {
    const {low, high, target} = limits(metric), [first, last] = ranges[at] ?? [0, 1], far = 50 * (last - first);
    const along = (from, to) => at === 0 ? {x0: from, x1: to, yref: "paper", y0: 0, y1: 1} : {y0: from, y1: to, xref: "paper", x0: 0, x1: 1};
    for (const [from, to] of [[low, first - far], [high, last + far]]) if (from !== null) shapes.push({type: "rect", ...along(from, to), layer: "below", name: "out", line: {width: 0}, opacity: 0.13});
    for (const level of new Set([low, high, target])) if (level !== null) shapes.push({type: "line", ...along(level, level), line: {width: 1, dash: "dash"}, layer: "below", name: "out"});
  });
  return shapes;
}

/** The selected trial, ringed, with one standard deviation each way. */
function picked(data, axes, three) {
  const row = table.columns.trial.indexOf(Number(state.get("sel", NaN)));
  if (row < 0 || three) return;
  const at = axes.map(metric => value(metric, row, true));
  if (at.some(v => v === null)) return;
  const spread = metric => metric === "#" ? null : (table.columns[`mean:${metric}`]?.[row] ?? null) === null ? table.columns[`sd:${metric}`]?.[row] : table.columns[`sem:${metric}`]?.[row];
  const bar = metric => spread(metric) ? {type: "data", array: [spread(metric)], visible: true, thickness: 1.5} : undefined;
  data.push({type: "scatter", mode: "markers", x: [at[0]], y: [at[1]], error_x: bar(axes[0]), error_y: bar(axes[1]), customdata: [row], hoverinfo: "skip", showlegend: false, marker: {symbol: "circle-open", size: 19, line: {width: 2.5}}, meta: {colour: "ink", kind: "selected", hollow: true}});
}

async function draw() {
  const {data, layout, shown, nowhere, behind, three} = figure();
  if (!shown) {
    if (drawnAs) window.Plotly.purge(box);
    cloud(box, null);
    box.classList.remove("js-plotly-plot");
    box.replaceChildren(el("p", {class: "empty"}, table.n ? "Nothing to draw: no trial has these values yet." : "No trial has been proposed yet."));
    drawnAs = "";
    says.textContent = "";
    return;
  }
  const as = three ? "3d" : "2d";
  if (drawnAs && drawnAs !== as) window.Plotly.purge(box);
  const first = drawnAs !== as;
  if (first) box.cloudFollows = false;
  if (first) box.classList.remove("js-plotly-plot");
  drawnAs = as;
  await plot(box, {data, layout});
  cloud(box, behind && {x: behind.map(([, at]) => at[0]), y: behind.map(([, at]) => at[1]), colour: css("--open"), alpha: 0.35});
  box.dataset.points = shown;
  if (first) box.on("plotly_click", event => { const row = event.points[0]?.customdata; if (row !== undefined) select(table.columns.trial[row]); });
  const parts = [`${plural(shown, "trial")}.`];
  if (nowhere) parts.push(`Not shown, as nothing is known of them on these axes: ${nowhere.toLocaleString("en")}.`);
  if (data.some(t => ["open", "failed", "infeasible"].includes(t.meta.kind))) parts.push("Open and failed trials stand where they were foretold.");
  if (layout.shapes.some(shape => shape.type === "rect")) parts.push("Shaded: what a constraint, a threshold or a tolerance excludes.");
  if (behind) parts.push("Of so many, pointing finds those that were measured.");
  if (!gl && table.metrics.length > 2) parts.push("This browser draws no 3-D (WebGL is off), so there is no third axis.");
  says.textContent = parts.join(" ");
}

function select(index, push = true) {
  const row = table.columns.trial.indexOf(Number(index));
  if (push) state.set({sel: row < 0 ? null : String(index)});
  for (const line of all("#front-table tbody tr")) line.setAttribute("aria-selected", String(row >= 0 && line.dataset.trial === String(index)));
  if (row < 0) return;
  $("#selected").replaceChildren(...trialCard(table, row, campaign));
  draw();
}

// --- which of the front is best for these weights

function pick() {
  if (!weights || !table) return;
  const goals = table.objectives.map(goal => ({...goal, weight: Number($(`[data-weight="${goal.metric}"]`, weights).value)}));
  const rows = [];
  for (let row = 0; row < table.n; row++) if (word(table, "kind", row) === "front") rows.push(row);
  weights.hidden = rows.length < 2;
  if (rows.length < 2) return;
  const gains = rows.map(row => goals.map(goal => gain(goal, table.columns[`mean:${goal.metric}`][row])));
  const low = goals.map((_, k) => Math.min(...gains.map(g => g[k]))), high = goals.map((_, k) => Math.max(...gains.map(g => g[k])));
  const score = gains.map(g => g.reduce((sum, v, k) => sum + goals[k].weight * (high[k] > low[k] ? (v - low[k]) / (high[k] - low[k]) : 1), 0));
  const best = rows[score.indexOf(Math.max(...score))], index = table.columns.trial[best];
  const button = el("button", {type: "button", class: "btn", onclick: () => select(index)}, "Show it");
  $("#pick").replaceChildren("With these weights: ", el("a", {href: `/c/${campaign}/trials/${index}`}, `trial ${index}`), `, ${formulaText(table.columns.name[best])} `, button);
  for (const line of all("#front-table tbody tr")) line.classList.toggle("lit", line.dataset.trial === String(index));
}
weights?.addEventListener("input", event => {
  event.target.nextElementSibling.value = event.target.value;
  state.set({[`w.${event.target.dataset.weight}`]: event.target.value === "50" ? null : event.target.value});
  pick();
});
for (const slider of weights ? all("[data-weight]", weights) : []) {
  slider.value = state.get(`w.${slider.dataset.weight}`, "50");
  slider.nextElementSibling.value = slider.value;
}

document.addEventListener("matloop:theme", () => table && draw());
form.addEventListener("change", event => {
  if (event.target.type === "checkbox") state.set({[event.target.name]: event.target.checked ? null : "0"});
  else state.set({[event.target.name]: event.target.value});
  draw();
});
form.addEventListener("submit", event => event.preventDefault());
for (const name of ["measured", "predicted", "infeasible"]) form[name].checked = state.get(name) !== "0";
$("#table").addEventListener("click", event => {
  const line = event.target.closest("tr[data-trial]");
  if (line && !event.target.closest("a")) select(line.dataset.trial);
});
$("#table").addEventListener("matloop:row", event => select(event.target.dataset.trial));
document.body.addEventListener("htmx:afterSwap", event => { if (event.target.id === "table" && table) { pick(); select(state.get("sel")); } });

onChange(async () => {
  table = await loadTable(campaign);
  fillAxes();
  await draw();
  pick();
  if (state.get("sel") !== null) select(state.get("sel"), false);
});
