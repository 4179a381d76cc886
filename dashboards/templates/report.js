"use strict";
// Everything on the page is there without this; it adds hovering, sorting, filtering and turning.
(() => {
const all = (what, where = document) => [...where.querySelectorAll(what)];
const tip = document.getElementById("tip");
const rows = new Map(all("#trials tbody tr").map(row => [row.dataset.t, row]));

// One trial, lit wherever it is.
let lit = null;
function light(trial) {
  if (trial === lit) return;
  for (const mark of all(".lit")) mark.classList.remove("lit");
  lit = trial;
  if (trial !== null) for (const mark of all(`[data-t="${CSS.escape(trial)}"]`)) mark.classList.add("lit");
}
function nearest(svg, event) {
  let best = null, least = 26;
  for (const mark of all("[data-t]", svg)) {
    const box = mark.getBoundingClientRect();
    const far = Math.hypot(event.clientX - box.x - box.width / 2, event.clientY - box.y - box.height / 2);
    if (far < least) { least = far; best = mark; }
  }
  return best;
}
for (const svg of all("svg.plot")) {
  svg.addEventListener("pointermove", event => {
    const mark = nearest(svg, event);
    light(mark ? mark.dataset.t : null);
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = rows.get(mark.dataset.t)?.dataset.tip ?? "";
    const wide = document.documentElement.clientWidth;
    tip.style.left = `${Math.max(4, Math.min(event.pageX + 14, scrollX + wide - tip.offsetWidth - 8))}px`;
    tip.style.top = `${event.pageY + 16}px`;
  });
  svg.addEventListener("pointerleave", () => { light(null); tip.hidden = true; });
  svg.addEventListener("click", event => {
    const mark = nearest(svg, event);
    const row = mark && (document.querySelector(`#front tr[data-t="${CSS.escape(mark.dataset.t)}"]`) ?? rows.get(mark.dataset.t));
    if (row) { tip.hidden = true; row.scrollIntoView({block: "center"}); light(mark.dataset.t); }
  });
}
for (const row of all("tr[data-t]")) {
  row.addEventListener("pointerenter", () => light(row.dataset.t));
  row.addEventListener("pointerleave", () => light(null));
}

// Tables sort by the column that is clicked; what has no value stays last.
for (const table of all("table.sortable")) {
  all("thead th", table).forEach((head, column) => {
    if (head.dataset.sort === undefined) return;
    // no <button>: browsers leave those out where print repeats a table's head
    const button = document.createElement("span");
    button.tabIndex = 0;
    button.setAttribute("role", "button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); button.click(); }
    });
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of all("th", table)) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = head.dataset.sort === "n" ? Number(x) - Number(y) : x.localeCompare(y, "en", {numeric: true});
        return down ? -order : order;
      }));
    });
  });
}

// The trials that are shown.
const status = document.getElementById("by-status"), text = document.getElementById("by-text");
if (status) {
  const count = document.getElementById("shown");
  const filter = () => {
    const word = text.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows.values()) {
      const kind = status.value === "" || row.dataset.kind === status.value || row.dataset.status === status.value;
      row.hidden = !(kind && row.textContent.toLowerCase().includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.size} trials`;
  };
  status.addEventListener("input", filter);
  text.addEventListener("input", filter);
  document.getElementById("trial-tools").hidden = false;
  filter();
}

// All CIFs of the front in one file: a CIF may hold several data blocks.
const together = document.getElementById("all-cifs");
if (together) {
  together.hidden = false;
  together.addEventListener("click", () => {
    const texts = all("#front tr").flatMap(row => {
      const link = row.querySelector("a[download]");
      if (!link) return [];
      const block = link.download.replace(/\.cif$/, "");
      return [atob(link.getAttribute("href").split(",")[1]).replace(/^data_.*$/m, `data_${block}`)];
    });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([texts.join("\n")], {type: "chemical/x-cif"}));
    link.download = together.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// Crystals turn: the same projection as dashboards/crystal_picture.py.
const EYE = 6, SIZE = 200, HOW = "http://www.w3.org/2000/svg";
function draw(svg) {
  const {scene, turn, tilt} = svg.state;
  const [ct, st, cp, sp] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
  const place = ([x, y, z]) => {
    const right = -st * x + ct * y, ahead = ct * x + st * y;
    const depth = sp * z + cp * ahead, scale = .47 * SIZE / scene.reach * EYE / (EYE - depth / scene.reach);
    return [SIZE / 2 + right * scale, SIZE / 2 - (cp * z - sp * ahead) * scale, depth, scale];
  };
  const shapes = [];
  const add = (depth, tag, attributes, words) => {
    const node = document.createElementNS(HOW, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (words) node.textContent = words;
    shapes.push([depth, node]);
  };
  const stroke = (a, b, css) => {
    const [p, q] = [place(a), place(b)];
    add((p[2] + q[2]) / 2, "path", {class: css, d: `M${p[0].toFixed(1)} ${p[1].toFixed(1)}L${q[0].toFixed(1)} ${q[1].toFixed(1)}`});
  };
  const vectors = [0, 3, 6].map(i => scene.cell.slice(i, i + 3));
  const at = parts => [0, 1, 2].map(k => parts.reduce((sum, part, i) => sum + part * vectors[i][k], 0));
  const between = (a, b, share) => a.map((x, k) => x + (b[k] - x) * share);
  for (let axis = 0; axis < 3; axis++) {
    for (const u of [-.5, .5]) for (const v of [-.5, .5]) {
      const [begin, end] = [-.5, .5].map(w => { const p = [u, v]; p.splice(axis, 0, w); return at(p); });
      for (let k = 0; k < 3; k++) stroke(between(begin, end, k / 3), between(begin, end, (k + 1) / 3), "c");
    }
    const p = place(vectors[axis]), long = Math.hypot(...vectors[axis]) * p[3];
    const [x, y] = [(p[0] - SIZE / 2) / long, (p[1] - SIZE / 2) / long];
    add(1e9, "path", {class: "x", d: `M22 178L${(22 + 14 * x).toFixed(1)} ${(178 + 14 * y).toFixed(1)}`});
    add(1e9, "text", {x: (22 + 20 * x).toFixed(1), y: (181 + 20 * y).toFixed(1)}, "abc"[axis]);
  }
  for (let k = 0; k < scene.bonds.length; k += 2) {
    const [i, j] = [scene.atoms[scene.bonds[k]], scene.atoms[scene.bonds[k + 1]]];
    const [a, b] = [i.slice(1, 4), j.slice(1, 4)];
    const long = Math.hypot(...a.map((x, n) => b[n] - x));
    stroke(between(a, b, .8 * i[4] / long), between(b, a, .8 * j[4] / long), "b");
  }
  for (const [kind, x, y, z, radius] of scene.atoms) {
    const p = place([x, y, z]);
    add(p[2], "circle", {fill: `url(#el-${scene.kinds[kind]})`, cx: p[0].toFixed(1), cy: p[1].toFixed(1), r: (radius * p[3]).toFixed(1)});
  }
  svg.replaceChildren(...shapes.sort((a, b) => a[0] - b[0]).map(shape => shape[1]));
}
function turnable(svg) {
  svg.state = {scene: JSON.parse(svg.dataset.crystal), turn: .42, tilt: .24};
  const by = (dx, dy) => {
    svg.state.turn -= dx * .011;
    svg.state.tilt = Math.max(-1.57, Math.min(1.57, svg.state.tilt + dy * .011));
    draw(svg);
  };
  let held = false, moved = 0;
  svg.addEventListener("pointerdown", event => { held = true; moved = 0; svg.setPointerCapture(event.pointerId); });
  svg.addEventListener("pointermove", event => {
    if (!held) return;
    moved += Math.abs(event.movementX) + Math.abs(event.movementY);
    by(event.movementX, event.movementY);
  });
  for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => { held = false; });
  svg.addEventListener("keydown", event => {
    const step = {ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12]}[event.key];
    if (step) { by(...step); event.preventDefault(); }
    if (event.key === "Enter") enlarge(svg);
  });
  svg.addEventListener("click", () => { if (moved < 4) enlarge(svg); });
}
const viewer = document.getElementById("viewer");
function enlarge(svg) {
  if (viewer.open) return;
  const large = svg.cloneNode(true);
  viewer.replaceChildren(large, svg.parentNode.querySelector(".key").cloneNode(true));
  turnable(large);
  viewer.showModal();
}
viewer.addEventListener("click", event => { if (event.target === viewer) viewer.close(); });
all("svg.crystal").forEach(turnable);
})();
