// The candidates' columns as the service sends them (/candidates.columns), and what pages ask of them.

import {el, formulaText, getJSON, label, number, quantity, unit} from "../app.js";

/** All trials as columns; those that say nothing are not sent, and made here. */
export async function loadTable(campaign) {
  const table = await getJSON(`/v1/campaigns/${campaign}/candidates.columns`), columns = table.columns;
  columns.trial ??= Array.from({length: table.n}, (_, row) => row);
  table.named = columns.name !== undefined;
  columns.name ??= columns.trial.map((_, row) => table.parameters.map(name => `${name.replace(/_/g, " ")} ${parameter(table, name, row)}`).join(", "));
  return table;
}

/** A parameter of a trial, to read: 1480 K. */
function parameter(table, name, row) {
  const value = table.columns[`param:${name}`]?.[row];
  return typeof value === "number" ? `${number(value)} ${unit(table.units[name])}`.trim() : String(value ?? "");
}

/** What a kind of trial looks like: its colour on the page, its marker, its words. */
export const KINDS = {
  open: {colour: "open", symbol: "triangle-up-open", size: 8},
  failed: {colour: "failed", symbol: "x", size: 8},
  infeasible: {colour: "failed", symbol: "x-thin-open", size: 8},
  part: {colour: "out", symbol: "circle-open-dot", size: 7},
  out: {colour: "out", symbol: "circle-open", size: 7},
  ok: {colour: "ok", symbol: "circle", size: 8},
  front: {colour: "front", symbol: "diamond", size: 11},
};

/** Words of a code column at a row: word(table, "kind", 3). */
export const word = (table, column, row) => table.codes[column][table.columns[column][row]];

export const goalOf = (table, metric) => table.objectives.find(o => o.metric === metric);
export const unitOf = (table, metric) => table.metrics.find(m => m.name === metric)?.unit ?? "";

/** A metric as the title of an axis, with its unit and the better direction. */
export function axisTitle(table, metric) {
  const goal = goalOf(table, metric);
  const arrow = {maximize: " ↑", minimize: " ↓"}[goal?.goal] ?? (goal ? ` → ${number(goal.target)}` : "");
  return `${label(metric, unitOf(table, metric))}${arrow}`;
}

/** What a trial is worth in an objective: larger is better. */
export function gain(goal, value) {
  if (goal.goal === "maximize") return value;
  if (goal.goal === "minimize") return -value;
  return -Math.abs(value - goal.target);
}

/** A card that tells of one trial: its values, and ways to it. */
export function trialCard(table, row, campaign) {
  const columns = table.columns, index = columns.trial[row], kind = word(table, "kind", row);
  const at = (key, metric) => columns[`${key}:${metric}`]?.[row] ?? null;
  const values = table.metrics.map(({name}) => {
    const mean = at("mean", name), before = at("predicted", name);
    return el("tr", {}, el("th", {scope: "row"}, axisTitle(table, name)),
      el("td", {class: "n"}, mean === null ? "–" : quantity(mean, "", at("sem", name) ?? undefined)),
      el("td", {class: "n soft"}, before === null ? "–" : quantity(before, "", at("sd", name) ?? undefined)));
  });
  const parameters = table.parameters.map(name => el("span", {}, el("span", {class: "soft"}, `${name.replace(/[_.]/g, " ")} `), parameter(table, name, row)));
  const open = kind === "open";
  return [
    el("h3", {}, el("a", {href: `/c/${campaign}/trials/${index}`}, `Trial ${index}`)),
    table.named ? el("p", {}, formulaText(columns.name[row])) : null,
    el("p", {class: "soft"}, `${table.kinds[kind] ?? kind}, ${word(table, "method", row)}, round ${columns.round[row]}`),
    el("table", {class: "data"}, el("thead", {}, el("tr", {}, el("th", {scope: "col"}, "Metric"), el("th", {scope: "col", class: "n"}, "Found"), el("th", {scope: "col", class: "n"}, "Foretold"))), el("tbody", {}, ...values)),
    parameters.length ? el("p", {class: "params"}, ...parameters) : null,
    el("p", {class: "tools"}, el("a", {class: "btn", href: `/c/${campaign}/trials/${index}`}, "Open"), open ? el("a", {class: "btn primary", href: `/c/${campaign}/decide?sel=${index}#trial-${index}`}, "Decide") : null),
  ].filter(Boolean);
}

/** What hovering over a trial shows. */
export function tip(table, row, metrics) {
  const lines = [`<b>${escape(formulaText(table.columns.name[row]))}</b>`, `trial ${table.columns.trial[row]}: ${table.kinds[word(table, "kind", row)] ?? word(table, "kind", row)}`];
  for (const metric of metrics) {
    const mean = table.columns[`mean:${metric}`]?.[row] ?? null, before = table.columns[`predicted:${metric}`]?.[row] ?? null;
    const value = mean ?? before;
    if (value === null) continue;
    const spread = mean === null ? table.columns[`sd:${metric}`]?.[row] : table.columns[`sem:${metric}`]?.[row];
    lines.push(`${metric.replace(/_/g, " ")} ${quantity(value, unitOf(table, metric), spread ?? undefined)}${mean === null ? " (foretold)" : ""}`);
  }
  return lines.join("<br>");
}

const escape = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// --- a cloud

// Thousands of points behind a plot, on a plain canvas: they need no WebGL (whose plots in plotly
// compile code from text, which these pages forbid) and stay below what was measured.

/** Keep points {x, y, colour: text or an array, size, alpha, hide} behind a plot of two axes. */
export function cloud(box, points) {
  let canvas = box.parentElement.querySelector(`canvas.cloud[data-of="${box.id}"]`);
  if (!points || !points.x.length) { canvas?.remove(); box.cloud = null; return; }
  if (!canvas) {
    canvas = document.createElement("canvas");
    canvas.className = "cloud";
    canvas.dataset.of = box.id;
    canvas.setAttribute("aria-hidden", "true");
    box.parentElement.insertBefore(canvas, box);
  }
  box.cloud = points;
  canvas.dataset.points = points.x.length;
  if (!box.cloudFollows) {
    box.cloudFollows = true;
    for (const event of ["plotly_afterplot", "plotly_relayouting", "plotly_relayout"]) box.on(event, () => paint(box));
  }
  paint(box);
}

function paint(box) {
  const points = box.cloud, canvas = box.parentElement.querySelector(`canvas.cloud[data-of="${box.id}"]`);
  const layout = box._fullLayout;
  if (!points || !canvas || !layout?.xaxis) return;
  const {xaxis, yaxis} = layout, ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(xaxis._length * ratio);
  canvas.height = Math.round(yaxis._length * ratio);
  Object.assign(canvas.style, {left: `${box.offsetLeft + xaxis._offset}px`, top: `${box.offsetTop + yaxis._offset}px`, width: `${xaxis._length}px`, height: `${yaxis._length}px`});
  const brush = canvas.getContext("2d");
  brush.scale(ratio, ratio);
  brush.globalAlpha = points.alpha ?? 0.5;
  const size = points.size ?? 3, many = Array.isArray(points.colour);
  if (!many) brush.fillStyle = points.colour;
  for (let i = 0; i < points.x.length; i++) {
    const x = xaxis.l2p(points.x[i]), y = yaxis.l2p(points.y[i]);
    if (x < 0 || y < 0 || x > xaxis._length || y > yaxis._length) continue;
    if (many) brush.fillStyle = points.colour[i];
    brush.fillRect(x - size / 2, y - size / 2, size, size);
  }
}

// Viridis (van der Walt and Smith, 2015) at nine places.
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];

/** A colour between low (0) and high (1). */
export function viridis(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), low = Math.min(Math.floor(at), VIRIDIS.length - 2), rest = at - low;
  return `rgb(${VIRIDIS[low].map((v, k) => Math.round(v + rest * (VIRIDIS[low + 1][k] - v))).join(",")})`;
}

/** The range of an axis that holds values, with a margin. */
export function rangeOf(values, pad = 0.05) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  if (!(high >= low)) return undefined;
  const margin = pad * (high - low || Math.abs(high) || 1);
  return [low - margin, high + margin];
}

/** Whether a point lies within a polygon that was drawn: its corners' x and y. */
export function within(x, y, corners) {
  let inside = false;
  for (let i = 0, j = corners.x.length - 1; i < corners.x.length; j = i++) {
    if ((corners.y[i] > y) !== (corners.y[j] > y) && x < (corners.x[j] - corners.x[i]) * (y - corners.y[i]) / (corners.y[j] - corners.y[i]) + corners.x[i]) inside = !inside;
  }
  return inside;
}
