// Decide on proposals: one by one, in bulk, by keys; add a design by hand. What somebody else
// changed meanwhile is told as a conflict, and nothing is overwritten.

import {$, all, Problem, el, getJSON, proposals, send, state, toast} from "../app.js";

const base = `/v1/campaigns/${document.body.dataset.campaign}`;
const rows = $("#rows"), bulk = $("#bulk");
const marked = new Set(state.all("sel"));
const DONE = {approve: "approved", reject: "rejected", hold: "held", release: "released"};

const row = index => $(`.proposal[data-trial="${index}"]`);
const again = () => document.body.dispatchEvent(new CustomEvent("matloop:again"));

function tellMarked() {
  const there = all(".proposal", rows);
  for (const item of there) {
    const box = $("input[type=checkbox]", item);
    box.checked = marked.has(item.dataset.trial);
    item.classList.toggle("lit", box.checked);
  }
  const shown = there.filter(item => marked.has(item.dataset.trial));
  $("#marked").textContent = shown.length ? `${shown.length} marked` : "none marked";
  $("#every").checked = there.length > 0 && shown.length === there.length;
  $("#every").indeterminate = shown.length > 0 && shown.length < there.length;
  for (const button of all("[data-bulk]", bulk)) button.disabled = !shown.length;
  state.set({sel: [...marked]});
}
rows.addEventListener("change", event => {
  if (event.target.type !== "checkbox") return;
  marked[event.target.checked ? "add" : "delete"](event.target.value);
  tellMarked();
});
$("#every").addEventListener("change", event => {
  for (const item of all(".proposal", rows)) marked[event.target.checked ? "add" : "delete"](item.dataset.trial);
  tellMarked();
});
let focused = null;
document.body.addEventListener("htmx:beforeSwap", event => { if (event.target === rows) focused = document.activeElement?.closest(".proposal")?.dataset.trial ?? null; });
document.body.addEventListener("htmx:afterSwap", event => {
  if (event.target !== rows) return;
  for (const index of marked) if (!row(index)) marked.delete(index);
  tellMarked();
  if (focused) row(focused)?.focus({preventScroll: true});
});

/** One decision, with the revision that this window shows; another by now is a conflict. */
async function decide(word, item, reason) {
  const body = {rev: Number(item.dataset.rev), ...(reason ? {reason} : {})};
  return send("POST", `${base}/trials/${item.dataset.trial}/${word}`, body);
}

async function decideAll(word, items, reason) {
  let done = 0;
  const refused = [];
  for (const item of items) {
    item.setAttribute("aria-busy", "true");
    try {
      await decide(word, item, reason);
      done += 1;
      marked.delete(item.dataset.trial);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      refused.push([item.dataset.trial, error]);
      if (error.status === 409) item.classList.add("conflict");
    } finally {
      item.removeAttribute("aria-busy");
    }
  }
  if (done) toast(done === 1 ? `Trial ${items.length === 1 ? items[0].dataset.trial : ""} ${DONE[word]}.`.replace("  ", " ") : `${done} trials ${DONE[word]}.`);
  for (const [, error] of refused.slice(0, 3)) toast(error);
  if (refused.length > 3) toast(new Error(`${refused.length - 3} more were refused for the same cause`));
  again();
}

// --- reject, with a reason

const rejecting = {dialog: $("#reject-dialog"), items: []};
function reject(items) {
  rejecting.items = items;
  $("#reject-title").textContent = items.length === 1 ? `Reject trial ${items[0].dataset.trial}` : `Reject ${items.length} trials`;
  $("#reject-reason").value = "";
  rejecting.dialog.showModal();
}
all("[data-reason]").forEach(chip => chip.addEventListener("click", () => { $("#reject-reason").value = chip.dataset.reason; $("#reject-reason").focus(); }));
$("#reject-form").addEventListener("submit", event => {
  if (event.submitter?.value !== "yes") return;
  decideAll("reject", rejecting.items, $("#reject-reason").value.trim());
});

rows.addEventListener("click", event => {
  const button = event.target.closest("[data-do]");
  if (!button) return;
  const item = button.closest(".proposal"), word = button.dataset.do;
  if (word === "reject") reject([item]);
  else if (word === "change") change(item);
  else decideAll(word, [item]);
});
bulk.addEventListener("click", event => {
  const word = event.target.closest("[data-bulk]")?.dataset.bulk;
  const items = [...marked].map(row).filter(Boolean);
  if (!word || !items.length) return;
  if (word === "reject") reject(items);
  else decideAll(word, items);
});

// --- keys

document.addEventListener("keydown", event => {
  if (event.target.closest("input:not([type=checkbox]),select,textarea") || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
  const items = all(".proposal", rows), here = event.target.closest(".proposal"), at = items.indexOf(here);
  if (event.key === "j" || event.key === "k") items[Math.min(items.length - 1, Math.max(0, at < 0 ? 0 : at + (event.key === "j" ? 1 : -1)))]?.focus();
  if (!here) return;
  if (event.key === "a" && $('[data-do="approve"]', here)) decideAll("approve", [here]);
  if (event.key === "r") { event.preventDefault(); reject([here]); }
  if (event.key === "x") { $("input[type=checkbox]", here).click(); }
  if (event.key === "Enter" && event.target === here) $("a", $(".what", here)).click();
});

// --- more proposals: a job of the engine

$("#more").addEventListener("submit", async event => {
  event.preventDefault();
  const button = $("button", event.target);
  button.setAttribute("aria-busy", "true");
  try {
    const made = await proposals(document.body.dataset.campaign, {n: Number(event.target.n.value)}, $("#job"));
    toast(`${made.length} proposed.`);
    again();
  } catch (error) {
    toast(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
});

// --- a design by hand: a new one, or one that was proposed, changed

const dialog = $("#add-dialog"), form = $("#add-form");
let replaces = null;
function open(title, says, item) {
  replaces = item;
  $("#add-title").textContent = title;
  $("#add-says").textContent = says;
  $("#add-errors").replaceChildren();
  dialog.showModal();
}
$("#add").addEventListener("click", () => open("Add a design", "It is checked against the space and its constraints, and then waits like a proposal.", null));

async function change(item) {
  const {params, design} = await getJSON(`${base}/trials/${item.dataset.trial}`);
  for (const field of all("[data-param]", form)) {
    const name = field.dataset.param;
    const value = field.dataset.kind === "latent" ? design[name]?.cif : params[name];
    if (value !== undefined) field.value = value;
  }
  open(`Change trial ${item.dataset.trial}`, `The changed design is added; trial ${item.dataset.trial} is then rejected in its favour.`, item);
}
all("[data-into]", form).forEach(input => input.addEventListener("change", async () => {
  if (input.files[0]) document.getElementById(input.dataset.into).value = await input.files[0].text();
}));

function given() {
  const fields = all("[data-param]", form), params = {}, design = {};
  const crystals = fields.filter(field => field.dataset.kind === "latent");
  for (const field of fields) {
    const name = field.dataset.param;
    const value = field.dataset.kind === "number" ? Number(field.value) : field.value;
    params[name] = value;
    const [axis, ...part] = name.split(".");
    if (field.dataset.kind === "latent") design[name] = {cif: value};
    else if (part.length) (design[axis] ??= {})[part.join(".")] = value;
    else design[name] = value;
  }
  for (const axis of JSON.parse(form.dataset.parameters)) {
    if (axis.kind === "choice") {  // a choice of numbers is one of numbers
      const chosen = axis.choice.find(v => String(v) === String(design[axis.name]));
      if (chosen !== undefined) design[axis.name] = params[axis.name] = chosen;
    }
  }
  return crystals.length ? {design} : {params};
}
form.addEventListener("submit", async event => {
  if (event.submitter?.value !== "yes") return;
  event.preventDefault();
  const box = $("#add-errors");
  box.replaceChildren();
  try {
    const made = await send("POST", `${base}/observations`, given());
    if (replaces) await decide("reject", replaces, `changed: trial ${made.trial} is tried instead`);
    toast(`Trial ${made.trial} was added.`);
    dialog.close();
    again();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const {problem} = error;
    box.append(el("div", {class: "notice error"}, el("p", {}, el("b", {}, problem.title), problem.detail ? `: ${problem.detail}` : ""), ...(problem.errors || []).map(e => el("p", {}, el("code", {}, e.where || ""), ` ${e.what}`, e.hint ? ` (${e.hint})` : ""))));
  }
});

tellMarked();
const linked = location.hash.startsWith("#trial-") ? document.getElementById(location.hash.slice(1)) : null;
linked?.focus();
