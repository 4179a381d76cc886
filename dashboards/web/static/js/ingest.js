// Take in a file of results: name its columns, try it dry, put odd rows aside, take it in.
// The service checks everything; this page only renames columns and leaves rows out.

import {$, all, Problem, el, getJSON, label, number, send, toast, withError} from "../app.js";
import {loadTable} from "./table.js";

const base = `/v1/campaigns/${document.body.dataset.campaign}`;
const about = JSON.parse($("#campaign-data").textContent);
const PLAIN = ["trial", "status", "reason", "source", "cif", ...(about.fidelities.length ? ["fidelity"] : [])];
let file = null, sheet = null, aside = new Map(), foretold = null;

// --- files

const drop = $("#drop");
drop.addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", event => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});
$("#file").addEventListener("change", event => { if (event.target.files[0]) open(event.target.files[0]); event.target.value = ""; });

async function open(chosen) {
  file = chosen;
  sheet = null;
  aside = new Map();
  $("#mapping").hidden = $("#outliers").hidden = true;
  if (/\.csv$/i.test(file.name)) {
    sheet = readCSV(await file.text());
    if (sheet.header.length) { drawMapping(); await outliers(); }
  }
  await dryRun();
}

/** The cells of a CSV (RFC 4180), and its separator. */
function readCSV(text) {
  const first = text.replace(/^\ufeff/, "").split(/\r?\n/, 1)[0];
  const separator = [",", ";", "\t"].map(s => [first.split(s).length, s]).sort((a, b) => b[0] - a[0])[0][1];
  const rows = [[]];
  let cell = "", quoted = false;
  const body = text.replace(/^\ufeff/, "");
  for (let i = 0; i < body.length; i++) {
    const c = body[i];
    if (quoted) {
      if (c === '"' && body[i + 1] === '"') { cell += '"'; i += 1; }
      else if (c === '"') quoted = false;
      else cell += c;
    } else if (c === '"') quoted = true;
    else if (c === separator) { rows.at(-1).push(cell); cell = ""; }
    else if (c === "\n" || c === "\r") {
      if (c === "\r" && body[i + 1] === "\n") i += 1;
      rows.at(-1).push(cell); cell = ""; rows.push([]);
    } else cell += c;
  }
  rows.at(-1).push(cell);
  if (rows.at(-1).length === 1 && rows.at(-1)[0] === "") rows.pop();
  const [header = [], ...lines] = rows;
  return {header, lines, separator, is: header.map(known)};
}

/** What a column's name says it is: {name, unit}, or nothing. */
function known(text) {
  const match = /^\s*([^()[\]]*?)\s*(?:[([](.*)[)\]])?\s*$/.exec(text);
  if (!match) return {name: "", unit: ""};
  const [, name, unit = ""] = match;
  const plain = name.toLowerCase(), metric = name.replace(/_sem$/, "");
  if (PLAIN.includes(plain)) return {name: plain, unit: ""};
  if (metric in about.metrics) return {name, unit: unit || about.metrics[metric]};
  if (name === "name" || about.parameters.some(p => name === p.name || name.startsWith(`${p.name}.`))) return {name: "=", unit};
  return {name: "", unit};
}

function drawMapping() {
  const body = $("#columns tbody");
  const names = [...PLAIN, ...Object.keys(about.metrics).flatMap(m => [m, `${m}_sem`])];
  body.replaceChildren(...sheet.header.map((text, at) => {
    const is = sheet.is[at];
    const select = el("select", {"aria-label": `column ${text} is`},
      el("option", {value: ""}, "left out"), el("option", {value: "="}, "as it was handed out"),
      ...names.map(name => el("option", {value: name}, name.replace(/_sem$/, ", standard error").replace(/_/g, " "))));
    select.value = is.name;
    const unit = el("input", {size: "9", "aria-label": `unit of ${text}`, value: is.unit});
    const show = () => { unit.hidden = !(sheet.is[at].name.replace(/_sem$/, "") in about.metrics); };
    select.addEventListener("change", () => {
      sheet.is[at].name = select.value;
      const metric = select.value.replace(/_sem$/, "");
      if (metric in about.metrics && !unit.value) unit.value = sheet.is[at].unit = about.metrics[metric];
      show();
      again();
    });
    unit.addEventListener("change", () => { sheet.is[at].unit = unit.value.trim(); again(); });
    show();
    return el("tr", {class: is.name ? null : "unknown"}, el("th", {scope: "row"}, text || "(no name)"), el("td", {}, select), el("td", {}, unit), el("td", {class: "soft"}, sheet.lines.slice(0, 3).map(line => line[at] ?? "").filter(Boolean).join(", ")));
  }));
  const commas = sheet.separator !== "," && sheet.lines.some(line => line.some((cell, at) => sheet.is[at]?.name in about.metrics && /^-?\d+,\d+$/.test(cell.trim())));
  $("#decimal-tools").hidden = !commas;
  $("#decimal").checked = commas;
  $("#mapping").hidden = false;
}
$("#decimal").addEventListener("change", () => again());

/** The file as the service is to read it: columns by their names, rows that are put aside left out. */
function written(only = null) {
  const kept = sheet.is.map((is, at) => [is, at]).filter(([is]) => is.name);
  const cell = value => /[",\r\n]/.test(value) ? `"${value.replace(/"/g, '""')}"` : value;
  const name = ([is, at]) => is.name === "=" ? sheet.header[at] : is.name.replace(/_sem$/, "") in about.metrics && is.unit && is.unit !== "dimensionless" ? `${is.name} (${is.unit})` : is.name;
  const numeric = is => is.name.replace(/_sem$/, "") in about.metrics;
  const lines = sheet.lines.map((line, row) => [line, row + 2]).filter(([, row]) => only ? only.has(row) : true).map(([line, row]) => !only && aside.has(row) ? null : kept.map(([is, at]) => cell($("#decimal").checked && numeric(is) ? (line[at] ?? "").replace(",", ".") : line[at] ?? "")).join(","));
  // a row that is put aside stays as an empty one, so that the numbers of the others stay
  return [kept.map(name).map(cell).join(","), ...lines.map(line => line ?? kept.map(() => "").join(","))].join("\n") + "\n";
}
function body() {
  const form = new FormData();
  form.append("file", sheet ? new File([written()], file.name, {type: "text/csv"}) : file, file.name);
  return form;
}

// --- far from what was foretold

async function outliers() {
  const trialAt = sheet.is.findIndex(is => is.name === "trial");
  const box = $("#outliers");
  box.hidden = true;
  if (trialAt < 0) return;
  foretold ??= await predictions();
  const found = [];
  sheet.lines.forEach((line, i) => {
    const index = Number(line[trialAt]);
    sheet.is.forEach((is, at) => {
      const before = foretold.get(index)?.[is.name];
      if (!before || !(is.name in about.metrics) || is.unit !== about.metrics[is.name]) return;
      const text = (line[at] ?? "").trim(), value = Number($("#decimal").checked ? text.replace(",", ".") : text);
      if (!text || !Number.isFinite(value) || !(before.sd > 0)) return;
      const off = (value - before.mean) / before.sd;
      if (Math.abs(off) > 4) found.push({row: i + 2, index, metric: is.name, value, before, off});
    });
  });
  $("tbody", box).replaceChildren(...found.map(one => {
    const tick = el("input", {type: "checkbox", "aria-label": `put row ${one.row} aside`});
    tick.checked = aside.has(one.row);
    tick.addEventListener("change", () => { if (tick.checked) aside.set(one.row, `${one.metric} is far from what was foretold`); else aside.delete(one.row); dryRun(); });
    return el("tr", {}, el("td", {}, tick), el("td", {}, String(one.row)), el("td", {}, String(one.index)), el("td", {}, label(one.metric, about.metrics[one.metric])), el("td", {class: "n"}, number(one.value)), el("td", {class: "n"}, withError(one.before.mean, one.before.sd)), el("td", {class: "n far"}, `${number(one.off, 2)} sd`));
  }));
  box.hidden = !found.length;
}

async function predictions() {
  const table = await loadTable(document.body.dataset.campaign), found = new Map();
  table.columns.trial.forEach((index, row) => {
    const told = {};
    for (const {name} of table.metrics) {
      const mean = table.columns[`predicted:${name}`]?.[row], sd = table.columns[`sd:${name}`]?.[row];
      if (mean !== null && mean !== undefined && sd) told[name] = {mean, sd};
    }
    found.set(index, told);
  });
  return found;
}

// --- dry run, and the real one

let turn = 0;
async function again() { await outliers(); await dryRun(); }

async function dryRun() {
  if (!file) return;
  const mine = ++turn, said = $("#said");
  $("#result").hidden = false;
  $("#result-title").textContent = `Dry run of ${file.name}`;
  $("#take").disabled = true;
  $("#aside").hidden = true;
  said.replaceChildren(el("p", {class: "soft"}, "checking…"));
  try {
    const told = await send("POST", `${base}/ingest?dry_run=1`, body());
    if (mine !== turn) return;
    said.replaceChildren(...summary(told, "would be"));
    $("#take").disabled = told.already_ingested || !(told.added + told.corrected + told.failed.length + told.realised.length);
  } catch (error) {
    if (mine !== turn) return;
    refused(error);
  }
  asideFile();
}

function summary(told, verb) {
  if (told.already_ingested) return [el("div", {class: "notice"}, el("p", {}, "This very content was the last that was taken in: there is nothing to do."))];
  const many = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
  const lines = [
    [told.added, `${many(told.added, "value")} ${verb} new`], [told.corrected, `${many(told.corrected, "value")} ${verb} corrected: they differ from those that are there`], [told.repeated, `${many(told.repeated, "value")} are there already`],
    [told.completed.length, `completed: trial${told.completed.length === 1 ? "" : "s"} ${told.completed.slice(0, 30).join(", ")}`], [told.failed.length, `failed: trial${told.failed.length === 1 ? "" : "s"} ${told.failed.slice(0, 30).join(", ")}`], [told.realised.length, `parameters as realised ${verb} known of ${many(told.realised.length, "trial")}`], [aside.size, `${many(aside.size, "row")} put aside`],
  ].filter(([count]) => count).map(([, text]) => el("li", {}, text));
  return [el("div", {class: "notice good"}, lines.length ? el("ul", {}, ...lines) : el("p", {}, "The file is in order, and says nothing new."))];
}

function refused(error) {
  if (!(error instanceof Problem)) { toast(error); return; }
  const {problem} = error, errors = problem.errors || [];
  const list = errors.map(one => el("li", {}, el("code", {}, one.where || ""), ` ${one.what}`, one.hint ? el("span", {class: "soft"}, ` (${one.hint})`) : null));
  $("#said").replaceChildren(el("div", {class: "notice error", role: "alert"}, el("p", {}, el("b", {}, problem.title), problem.detail ? `: ${problem.detail}` : ""), list.length ? el("ul", {class: "problems"}, ...list) : null, problem.unchanged ? el("p", {class: "soft"}, `Unchanged: ${problem.unchanged}.`) : null, problem.hint ? el("p", {}, el("b", {}, "Hint: "), problem.hint) : null));
  const bad = badRows(errors);
  const button = $("#aside");
  button.hidden = !(sheet && bad.size && bad.size < sheet.lines.length);
  button.textContent = `Put the ${bad.size === 1 ? "bad row" : `${bad.size} bad rows`} aside`;
}

function badRows(errors) {
  const found = new Map();
  for (const one of errors) {
    const row = Number(/\brow (\d+)/.exec(one.where || "")?.[1] ?? /:(\d+)/.exec(one.where || "")?.[1]);
    if (row > 1) found.set(row, one.what);
  }
  return found;
}

$("#aside").addEventListener("click", async () => {
  try {
    await send("POST", `${base}/ingest?dry_run=1`, body());
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    for (const [row, why] of badRows(error.problem.errors || [])) aside.set(row, why);
  }
  await again();
});

function asideFile() {
  const link = $("#aside-file");
  link.hidden = !aside.size || !sheet;
  if (link.hidden) return;
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([written(new Set(aside.keys()))], {type: "text/csv"}));
  link.textContent = `Save the ${aside.size === 1 ? "row that was" : `${aside.size} rows that were`} put aside`;
}

$("#check").addEventListener("click", dryRun);
$("#take").addEventListener("click", async event => {
  event.target.setAttribute("aria-busy", "true");
  try {
    const told = await send("POST", `${base}/ingest`, body());
    $("#result-title").textContent = "Taken in";
    $("#said").replaceChildren(...summary(told, "are"));
    event.target.disabled = true;
    toast("The results are in.");
  } catch (error) {
    refused(error);
  } finally {
    event.target.removeAttribute("aria-busy");
  }
});

// --- a table to fill in

$("#example").addEventListener("click", async () => {
  const {trials} = await getJSON(`${base}/trials?status=candidate&limit=1000`);
  const running = await getJSON(`${base}/trials?status=running&limit=1000`);
  const header = ["trial", ...Object.entries(about.metrics).flatMap(([name, unit]) => [name, `${name}_sem`].map(n => unit && unit !== "dimensionless" ? `${n} (${unit})` : n)), "status", "reason"];
  const lines = [...running.trials, ...trials].map(t => [t.trial, ...header.slice(1).map(() => "")].join(","));
  const link = el("a", {href: URL.createObjectURL(new Blob([[header.join(","), ...lines].join("\n") + "\n"], {type: "text/csv"})), download: "results.csv"});
  link.click();
  URL.revokeObjectURL(link.href);
});
all(".drop label")[0].addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); $("#file").click(); } });
