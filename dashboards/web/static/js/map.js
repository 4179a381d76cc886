// The map: where trials lie, coloured by what is asked for, selected by a lasso, replayed by rounds.

import {$, Problem, css, el, formulaText, getJSON, number, onChange, plot, plural, proposals, send, state, toast} from "../app.js";
import {KINDS, axisTitle, cloud, loadTable, viridis, within, word} from "./table.js";

const campaign = document.body.dataset.campaign;
const box = $("#map"), form = $("#how"), says = $("#map-says");
const MANY = 1500, MOST = 1000;
let map = null, chosen = new Set(state.all("sel").map(Number)), listening = false, playing = null;

const colours = () => {
  const [what, metric] = form.colour.value.split(":");
  if (what === "kind") return null;
  return metric ? map.values[metric]?.[what] ?? [] : map[what] ?? [];
};
const colourTitle = () => form.colour.selectedOptions[0].textContent;

function figure() {
  const round = Number(form.round.value), values = colours(), groups = {};
  map.trials.forEach((_, i) => { if (map.round[i] <= round) (groups[map.kind[i]] ??= []).push(i); });
  const known = values ? values.filter((v, i) => v !== null && map.round[i] <= round) : [];
  const low = Math.min(...known), high = Math.max(...known);
  const many = (groups.open?.length ?? 0) > MANY;
  const behind = many ? groups.open : null;
  const data = [];
  let bar = true;
  for (const [kind, look] of Object.entries(KINDS)) {
    const rows = many && kind === "open" ? [] : groups[kind];
    if (!rows) continue;
    if (many && kind === "open") data.push({type: "scatter", mode: "markers", name: map.kinds.open, x: [null], y: [null], marker: {symbol: "square", size: 6}, hoverinfo: "skip", meta: {colour: values ? "out" : "open", kind}});
    const traced = (part, coloured) => {
      if (!part.length) return;
      const now = part.map(i => map.round[i] === round && form.round.value !== form.round.max);
      data.push({
        type: "scatter", mode: "markers", name: map.kinds[kind] ?? kind, showlegend: !values,
        x: part.map(i => map.x[i]), y: part.map(i => map.y[i]), customdata: part.map(i => map.trials[i]),
        text: part.map(i => tip(i, values)), hoverinfo: "text",
        selectedpoints: chosen.size ? part.flatMap((i, at) => chosen.has(map.trials[i]) ? [at] : []) : undefined,
        unselected: {marker: {opacity: 0.5}},
        marker: {
          symbol: coloured ? look.symbol.replace("-open", "").replace("-dot", "").replace("x-thin", "x") : look.symbol, size: part.map((_, at) => look.size * (now[at] ? 1.7 : 1)), opacity: 0.9,
          ...(coloured ? {color: part.map(i => values[i]), colorscale: "Viridis", cmin: low, cmax: high, showscale: bar, colorbar: {title: {text: colourTitle(), side: "right"}, thickness: 12, outlinewidth: 0}} : {}),
          line: {width: coloured ? 0.8 : look.symbol.includes("open") ? 1.6 : 1, ...(coloured ? {color: css("--soft")} : {})},
        },
        meta: {colour: coloured ? "ink" : values ? "out" : look.colour, kind, hollow: look.symbol.includes("open") || look.symbol.startsWith("x")},
      });
      if (coloured) bar = false;
    };
    // coloured by a number, a shape says what became of it
    if (values && rows.length) data.push({type: "scatter", mode: "markers", name: map.kinds[kind] ?? kind, x: [null], y: [null], marker: {symbol: look.symbol, size: look.size, line: {width: 1.6}}, hoverinfo: "skip", meta: {colour: "out", kind, hollow: look.symbol.includes("open")}});
    traced(rows.filter(i => values && values[i] !== null && values[i] !== undefined), true);
    traced(rows.filter(i => !values || values[i] === null || values[i] === undefined), false);
  }
  const shapes = map.prior ? Object.values(map.prior.radii).map(r => ({type: "circle", xref: "x", yref: "y", x0: map.prior.x - r, x1: map.prior.x + r, y0: map.prior.y - r, y1: map.prior.y + r, layer: "below", line: {width: 1, dash: "dot"}, name: "out"})) : [];
  const share = at => map.shares ? ` (${Math.round(100 * map.shares[at])} %${box.clientWidth > 600 ? " of the variance" : ""})` : "";
  const every = map.prior ? Number(map.prior.radii["90"] ?? 0) : 0;
  const span = (values, middle) => { const low = Math.min(...values, middle - every), high = Math.max(...values, middle + every), pad = 0.06 * (high - low || 1); return [low - pad, high + pad]; };
  if (bar && values && known.length) data.push({type: "scatter", mode: "markers", x: [null], y: [null], showlegend: false, hoverinfo: "skip", marker: {color: [low], colorscale: "Viridis", cmin: low, cmax: high, showscale: true, colorbar: {title: {text: colourTitle(), side: "right"}, thickness: 12, outlinewidth: 0}}});
  const shown = data.reduce((sum, trace) => sum + trace.x.filter(v => v !== null).length, 0) + (behind?.length ?? 0);
  const ringed = map.trials.flatMap((t, i) => chosen.has(t) && map.round[i] <= round ? [i] : []);
  if (ringed.length && ringed.length <= 200) data.push({type: "scatter", mode: "markers", x: ringed.map(i => map.x[i]), y: ringed.map(i => map.y[i]), showlegend: false, hoverinfo: "skip", marker: {symbol: "circle-open", size: 18, line: {width: 2}}, meta: {colour: "ink", kind: "selected", hollow: true}});
  const back = behind && {
    x: behind.map(i => map.x[i]), y: behind.map(i => map.y[i]), alpha: 0.5,
    colour: behind.map(i => chosen.has(map.trials[i]) ? css("--front") : values ? (values[i] === null || values[i] === undefined ? css("--rule") : viridis((values[i] - low) / (high - low || 1))) : css("--open")),
  };
  return {data, back, shown, layout: {
    margin: {l: 60, r: 10, t: 10, b: 50}, hovermode: "closest", uirevision: "map", legend: {orientation: "h", y: 1.02, yanchor: "bottom"}, shapes,
    dragmode: $("#lasso").getAttribute("aria-pressed") === "true" ? "lasso" : "zoom",
    // the axes stay as they are while rounds are replayed
    xaxis: {title: {text: `first component${share(0)}`}, range: span(map.x, map.prior?.x ?? 0), zeroline: false},
    yaxis: {title: {text: `second component${share(1)}`}, range: span(map.y, map.prior?.y ?? 0), zeroline: false, ...(map.prior ? {scaleanchor: "x"} : {})},
  }};
}

function tip(i, values) {
  const lines = [`<b>${formulaText(map.name[i]).replace(/&/g, "&amp;").replace(/</g, "&lt;")}</b>`, `trial ${map.trials[i]}: ${map.kinds[map.kind[i]] ?? map.kind[i]}, round ${map.round[i]}`];
  if (values && values[i] !== null && values[i] !== undefined) lines.push(`${colourTitle()}: ${number(values[i])}`);
  return lines.join("<br>");
}

async function draw() {
  if (!map || map.reason) return;
  const {data, layout, back, shown} = figure();
  await plot(box, {data, layout});
  cloud(box, back);
  box.dataset.points = shown;
  if (!listening) {
    listening = true;
    box.on("plotly_selected", event => { if (event) choose(found(event)); });
    box.on("plotly_deselect", () => choose([]));
    box.on("plotly_click", event => { const index = event.points[0]?.customdata; if (index !== undefined) choose([index]); });
  }
  const parts = [plural(shown, "trial")];
  if (map.prior) parts.push("the rings hold 50 and 90 % of the generator's prior");
  if (colours() && !colours().some(v => v !== null)) parts.push("of none is this known yet");
  if (back) parts.push("of so many, pointing finds those that were measured; a lasso finds all");
  says.textContent = `${parts.join("; ")}.`;
}

/** The trials within a lasso or a box, those of the cloud too. */
function found({lassoPoints, range, points}) {
  const round = Number(form.round.value), corners = lassoPoints && {x: Object.entries(lassoPoints).find(([k]) => k.startsWith("x"))[1], y: Object.entries(lassoPoints).find(([k]) => k.startsWith("y"))[1]};
  const box = range && {x: Object.entries(range).find(([k]) => k.startsWith("x"))[1], y: Object.entries(range).find(([k]) => k.startsWith("y"))[1]};
  if (!corners && !box) return points.map(p => p.customdata);
  const between = (v, [a, b]) => v >= Math.min(a, b) && v <= Math.max(a, b);
  return map.trials.filter((_, i) => map.round[i] <= round && (corners ? within(map.x[i], map.y[i], corners) : between(map.x[i], box.x) && between(map.y[i], box.y)));
}

function choose(trials) {
  chosen = new Set(trials);
  state.set({sel: [...chosen].slice(0, 200).map(String)});
  list();
  draw();
}

/** What is selected, as a table, with what can be done. */
function list() {
  const rows = map.trials.map((t, i) => [t, i]).filter(([t]) => chosen.has(t));
  $("#chosen-says").textContent = rows.length ? `${rows.length} selected.` : "Draw a lasso around trials, or click one.";
  if (!rows.length) { $("#chosen").replaceChildren(); return; }
  const open = rows.filter(([, i]) => map.kind[i] === "open").map(([t]) => t);
  const metrics = map.metrics.map(m => m.name);
  const cell = (metric, i) => {
    const {mean, predicted} = map.values[metric];
    return mean[i] !== null ? el("td", {class: "n"}, number(mean[i])) : el("td", {class: "n soft"}, predicted[i] === null ? "–" : `${number(predicted[i])} foretold`);
  };
  $("#chosen").replaceChildren(
    el("p", {class: "tools no-print"},
      el("button", {type: "button", class: "btn primary", id: "near", title: "The engine looks within a box around these designs, this once", onclick: event => near(event.target, rows.map(([t]) => t))}, "Propose here"),
      el("span", {class: "soft", id: "near-says", role: "status"}),
      open.length ? el("button", {type: "button", class: "btn danger", id: "exclude", onclick: () => exclude(open)}, `Exclude ${open.length} open…`) : null,
      open.length ? el("a", {class: "btn", href: `/c/${campaign}/decide?${open.slice(0, 200).map(t => `sel=${t}`).join("&")}`}, "Decide on them") : null,
      el("button", {type: "button", class: "btn", onclick: () => choose([])}, "Select none")),
    el("div", {class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Selected trials"}, el("table", {class: "data", "data-keys": true},
      el("thead", {}, el("tr", {}, el("th", {scope: "col"}, "Trial"), el("th", {scope: "col"}, "Design"), el("th", {scope: "col"}, "What became of it"), el("th", {scope: "col", class: "n"}, "Round"), ...metrics.map(m => el("th", {scope: "col", class: "n"}, axisTitle(map, m))))),
      el("tbody", {}, ...rows.slice(0, 200).map(([t, i]) => el("tr", {tabindex: "-1", "data-trial": t}, el("td", {}, el("a", {href: `/c/${campaign}/trials/${t}`}, String(t))), el("td", {class: "design"}, formulaText(map.name[i])), el("td", {}, map.kinds[map.kind[i]] ?? map.kind[i]), el("td", {class: "n"}, String(map.round[i])), ...metrics.map(m => cell(m, i))))))),
  );
}

/** Ask for proposals near the selected trials; they are selected in their place. */
async function near(button, trials) {
  button.setAttribute("aria-busy", "true");
  try {
    const made = await proposals(campaign, {near: trials.slice(0, MOST)}, $("#near-says"));
    toast(`Proposed there: ${made.length === 1 ? "trial" : "trials"} ${made.join(", ")}.`);
    choose([...chosen, ...made]);
  } catch (error) {
    toast(error);
  } finally {
    $("#near")?.removeAttribute("aria-busy");
  }
}

/** Give up the open trials that are selected, with a reason. */
let excluded = [];
function exclude(trials) {
  excluded = trials.slice(0, MOST);
  $("#exclude-title").textContent = excluded.length === 1 ? `Exclude trial ${excluded[0]}` : `Exclude ${excluded.length} trials`;
  $("#exclude-reason").value = "";
  $("#exclude-dialog").showModal();
}
$("#exclude-form").addEventListener("submit", async event => {
  if (event.submitter?.value !== "yes") return;
  const reason = $("#exclude-reason").value.trim(), refused = [];
  for (const trial of excluded) {
    try {
      await send("POST", `/v1/campaigns/${campaign}/trials/${trial}/reject`, {reason});
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      refused.push(error);
    }
  }
  if (refused.length < excluded.length) toast(`${excluded.length - refused.length} excluded: they are given up, and not proposed again.`);
  if (refused.length) toast(refused[0]);
});

/** Where trials lie, with what is known of them; a trial that came between the two answers waits. */
function joined(places, table) {
  const at = new Map(table.columns.trial.map((index, row) => [index, row]));
  const there = places.trials.map((index, i) => [i, at.get(index)]).filter(([, row]) => row !== undefined);
  const column = key => there.map(([, row]) => table.columns[key]?.[row] ?? null);
  return {
    ...places, trials: there.map(([i]) => places.trials[i]), x: there.map(([i]) => places.x[i]), y: there.map(([i]) => places.y[i]),
    name: column("name"), round: column("round"), acquisition: column("acquisition"), kind: there.map(([, row]) => word(table, "kind", row)),
    values: Object.fromEntries(table.metrics.map(({name}) => [name, {mean: column(`mean:${name}`), predicted: column(`predicted:${name}`), sd: column(`sd:${name}`)}])),
  };
}

form.addEventListener("submit", event => event.preventDefault());
form.colour.addEventListener("change", () => { state.set({colour: form.colour.value === "kind" ? null : form.colour.value}); draw(); });
form.round.addEventListener("input", () => {
  const last = form.round.value === form.round.max;
  $("#round-says").value = last ? "all" : form.round.value;
  state.set({round: last ? null : form.round.value});
  draw();
});
document.addEventListener("matloop:theme", draw);
$("#lasso").addEventListener("click", event => {
  const on = event.target.getAttribute("aria-pressed") !== "true";
  event.target.setAttribute("aria-pressed", String(on));
  draw();
});
$("#play").addEventListener("click", event => {
  const stop = () => { clearInterval(playing); playing = null; event.target.setAttribute("aria-pressed", "false"); event.target.textContent = "Replay"; };
  if (playing) { stop(); return; }
  form.round.value = 0;
  event.target.setAttribute("aria-pressed", "true");
  event.target.textContent = "Stop";
  const step = () => { form.round.dispatchEvent(new Event("input", {bubbles: true})); if (form.round.value === form.round.max) stop(); else form.round.value = Number(form.round.value) + 1; };
  step();
  playing = setInterval(step, 900);
});

onChange(async () => {
  // at first the page has the places in it; what changes is fetched
  const inPage = $("#places"), there = inPage && JSON.parse(inPage.textContent);
  inPage?.remove();
  const [places, table] = await Promise.all([there ?? getJSON(`/v1/campaigns/${campaign}/latent`), loadTable(campaign)]);
  $("#map-box").hidden = Boolean(places.reason);
  $("#map-why").hidden = !places.reason;
  $("#map-why").textContent = `${places.reason.slice(0, 1).toUpperCase()}${places.reason.slice(1)}.`;
  if (places.reason) return;
  map = joined(places, table);
  const last = Math.max(0, ...map.round), atEnd = form.round.value === form.round.max;
  form.round.max = last;
  form.round.value = state.get("round", atEnd ? String(last) : form.round.value);
  $("#round-says").value = Number(form.round.value) === last ? "all" : form.round.value;
  $("#play").disabled = last === 0;
  const kept = state.get("colour");
  if (kept && [...form.colour.options].some(o => o.value === kept)) form.colour.value = kept;
  await draw();
  list();
});
