// Begin a campaign from the text of a spec; each error is told with its line.

import {$, Problem, el, send, toast} from "../app.js";

const form = $("#new-campaign"), text = $("#spec"), errors = $("#spec-errors");

async function read(file) {
  if (file.size > 500_000) { toast(new Error("a spec has less than 500 kB")); return; }
  text.value = await file.text();
  text.focus();
}
$("#spec-file").addEventListener("change", event => event.target.files[0] && read(event.target.files[0]));
text.addEventListener("dragover", event => event.preventDefault());
text.addEventListener("drop", event => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  read(event.dataTransfer.files[0]);
});

form.addEventListener("submit", async event => {
  event.preventDefault();
  errors.replaceChildren();
  const button = $("button", form);
  button.setAttribute("aria-busy", "true");
  try {
    const made = await send("POST", "/v1/campaigns", {spec: text.value});
    location.href = `/c/${encodeURIComponent(made.name ?? made.campaign)}`;
  } catch (error) {
    if (!(error instanceof Problem)) { toast(error); return; }
    const {problem} = error;
    const list = (problem.errors || []).map(one => el("li", {}, el("code", {}, one.where || ""), ` ${one.what}`, one.hint ? el("span", {class: "soft"}, ` (${one.hint})`) : null));
    errors.append(el("div", {class: "notice error"}, el("p", {}, el("b", {}, problem.title), problem.detail ? `: ${problem.detail}` : ""), list.length ? el("ul", {}, ...list) : null, problem.unchanged ? el("p", {class: "soft"}, `Unchanged: ${problem.unchanged}.`) : null));
    const line = /(?:line |:)(\d+)/.exec(problem.errors?.[0]?.where || "");
    if (line) mark(Number(line[1]));
  } finally {
    button.removeAttribute("aria-busy");
  }
});

function mark(line) {
  const lines = text.value.split("\n"), begin = lines.slice(0, line - 1).reduce((sum, l) => sum + l.length + 1, 0);
  text.focus();
  text.setSelectionRange(begin, begin + (lines[line - 1] || "").length);
}
