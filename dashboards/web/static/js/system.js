// Make and revoke keys.

import {$, el, send, toast} from "../app.js";

$("#token-form")?.addEventListener("submit", async event => {
  event.preventDefault();
  const form = event.target, scopes = [...form.querySelectorAll('[name="scope"]:checked')].map(box => box.value);
  try {
    if (!scopes.length) throw new Error("choose what the key may do");
    const made = await send("POST", "/v1/tokens", {
      name: form.name.value || form.elements.name.value, scopes,
      ...(form.campaign.value ? {campaign: form.campaign.value} : {}),
      ...(form.days.value ? {days: Number(form.days.value)} : {}),
    });
    $("#token-made").replaceChildren(el("div", {class: "notice good"}, el("p", {}, el("b", {}, "The key is shown only now: "), el("code", {}, made.key))));
  } catch (error) {
    toast(error);
  }
});

document.addEventListener("click", async event => {
  const button = event.target.closest("[data-revoke]");
  if (!button || !confirm(`Revoke the key ${button.dataset.name}? Who uses it is locked out at once.`)) return;
  try {
    await send("DELETE", `/v1/tokens/${button.dataset.revoke}`);
    location.reload();
  } catch (error) {
    toast(error);
  }
});
