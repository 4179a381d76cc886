// The page of one trial: its crystal in 3-D, slices of its pictures, notes, and keys to the trials beside it.

import {$, all, Problem, getJSON, number, send, state, toast} from "../app.js";
import {createViewer, show} from "./viewer.js";

const box = $("#viewer");
if (box) crystal(box);

async function crystal(box) {
  const says = $("#viewer-says"), tools = $("#viewer-tools");
  const viewer = createViewer(box);
  if (!viewer) {
    says.textContent = "This browser draws no 3-D (WebGL is off): the picture above is still, all figures are the same.";
    box.dataset.drawn = "still";
    return;
  }
  const input = name => $(`[data-view="${name}"]`, tools);
  for (const name of ["of", "cell", "times"]) {
    const kept = state.get(name);
    if (kept && [...input(name).options].some(o => o.value === kept)) input(name).value = kept;
  }
  let scene = null;
  const draw = home => {
    show(viewer, scene, {polyhedra: input("polyhedra").checked, bonds: input("bonds").checked, home});
    box.dataset.atoms = scene.atoms.length;
    box.dataset.drawn = "3d";
  };
  const load = async () => {
    const query = new URLSearchParams({of: input("of").value, cell: input("cell").value, times: input("times").value});
    // the page has the one that is shown at first
    const inPage = $("#scene"), there = inPage && ["of", "cell", "times"].every(name => state.get(name) === null) && JSON.parse(inPage.textContent);
    inPage?.remove();
    try {
      scene = there || await getJSON(`${box.dataset.src}?${query}`);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      toast(error);
      return;
    }
    $(".still", box)?.remove();
    draw(true);
    tell(scene);
  };
  for (const name of ["of", "cell", "times"]) input(name).addEventListener("change", () => { state.set({[name]: input(name).value}); load(); });
  for (const name of ["polyhedra", "bonds"]) input(name).addEventListener("change", () => draw(false));
  input("spin").addEventListener("change", event => viewer.spin(event.target.checked ? "y" : false, 0.6));
  input("home").addEventListener("click", () => draw(true));
  document.addEventListener("matloop:theme", () => scene && draw(false));
  new ResizeObserver(() => { viewer.resize(); viewer.render(); }).observe(box);
  tools.hidden = false;
  await load();
}

function tell(scene) {
  for (const cell of all("#lattice td")) cell.textContent = number(scene.lattice[cell.dataset.key], "abc".includes(cell.dataset.key) ? 5 : 4);
  $("#sites").textContent = String(scene.sites);
}

for (const slider of all("[data-slices]")) {
  slider.addEventListener("input", () => {
    const figure = slider.closest("figure"), image = $("img", figure);
    image.src = `${image.src.split("?")[0]}?slice=${slider.value}`;
    image.alt = image.alt.replace(/\d+$/, slider.value);
    $("output", figure).value = slider.value;
    state.set({slice: slider.value});
  });
}

$("#note-form")?.addEventListener("submit", async event => {
  event.preventDefault();
  try {
    await send("POST", event.target.dataset.url, {text: $("#note").value});
    $("#note").value = "";
    toast("The note is kept.");
  } catch (error) {
    toast(error);
  }
});

document.addEventListener("keydown", event => {
  if (event.target.closest("input,select,textarea,.viewer") || event.ctrlKey || event.metaKey || event.altKey) return;
  const to = {ArrowLeft: "prev", ArrowRight: "next"}[event.key];
  if (to) $(`a[rel="${to}"]`)?.click();
});
