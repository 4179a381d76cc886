// The candidates' columns as the service sends them (/candidates.columns), and what pages ask of them.

import {el, formulaText, getJSON, number, quantity, unit, label} from "../app.js";

/** All trials as columns; those that say nothing are not sent, and made here. */
export async function loadTable(campaign) {
  const table = await getJSON(`/v1/campaigns/${campaign}/candidates.columns`), columns = table.columns;
  columns.trial ??= Array.from({length: table.n}, (_, row) => row);
  columns.name ??= columns.trial.map((_, row) => table.parameters.map(name => {
    const value = columns[`param:${name}`]?.[row];
    return `${name.replace(/_/g, " ")} ${typeof value === "number" ? number(value) : value ?? ""}`;
  }).join(", "));
  return table;
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
  const parameters = table.parameters.map(name => el("span", {}, el("span", {class: "soft"}, `${name.replace(/[_.]/g, " ")} `), typeof columns[`param:${name}`]?.[row] === "number" ? number(columns[`param:${name}`][row]) : String(columns[`param:${name}`]?.[row] ?? "")));
  const open = kind === "open";
  return [
    el("h3", {}, el("a", {href: `/c/${campaign}/trials/${index}`}, `Trial ${index}`)),
    el("p", {}, formulaText(columns.name[row])),
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

export {unit};
