// The overview's buttons: answer a campaign that asks, stop it, let it go on.

import {$, send, toast} from "../app.js";

const base = `/v1/campaigns/${document.body.dataset.campaign}`;

async function change(path, body, done, button) {
  button?.setAttribute("aria-busy", "true");
  try {
    await send("POST", `${base}/${path}`, body);
    toast(done);
    document.body.dispatchEvent(new CustomEvent("matloop:changed"));
  } catch (error) {
    toast(error);
  } finally {
    button?.removeAttribute("aria-busy");
  }
}

document.addEventListener("click", event => {
  const answer = event.target.closest("[data-answer]"), resume = event.target.closest("[data-resume]");
  if (answer) {
    const goOn = answer.dataset.answer === "true";
    change("answer", {go_on: goOn}, goOn ? "It goes on." : "It stays as it is.", answer);
  }
  if (resume) change("resume", {}, "It goes on.", resume);
});

$("#stop-form").addEventListener("submit", event => {
  event.preventDefault();
  const reason = event.target.reason.value.trim();
  change("stop", reason ? {reason} : {}, "Stopped: no trial is given out any more.", $("button", event.target));
});
