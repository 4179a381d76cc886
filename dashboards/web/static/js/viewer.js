// A crystal in 3-D, by 3Dmol: it draws the points that the server sends, and knows no symmetry.

import {css, hasWebGL} from "../app.js";

/** A viewer in a box; null where the browser cannot. One a page: browsers allow few contexts. */
export function createViewer(box) {
  if (!window.$3Dmol || !hasWebGL()) return null;
  const stage = document.createElement("div");
  stage.className = "stage";
  box.append(stage);
  let viewer = null;
  try {
    viewer = window.$3Dmol.createViewer(stage, {antialias: true, disableFog: true, backgroundColor: css("--bg")});
  } catch {
    viewer = null;
  }
  if (!viewer) { stage.remove(); return null; }
  return viewer;
}

const point = ([x, y, z]) => ({x, y, z});

/** Draw a scene of /v1/.../scene: show(viewer, scene, {polyhedra, bonds, home}). */
export function show(viewer, scene, {polyhedra = true, bonds = true, home = true} = {}) {
  viewer.setBackgroundColor(css("--bg"), 1);  // not clear: what shines through is mixed with it
  viewer.removeAllModels();
  viewer.removeAllShapes();
  viewer.removeAllLabels();
  const middle = [0, 1, 2].map(k => (scene.box[0][k] + scene.box[1][k] + scene.box[2][k]) / 2);
  const at = xyz => point(xyz.map((v, k) => v - middle[k]));
  const atoms = scene.atoms.map(([kind, ...xyz], index) => ({
    ...at(xyz), elem: scene.kinds[kind].element, serial: index, index, bonds: [], bondOrder: [], kind,
  }));
  if (bonds) for (const [i, j] of scene.bonds) {
    atoms[i].bonds.push(j); atoms[i].bondOrder.push(1);
    atoms[j].bonds.push(i); atoms[j].bondOrder.push(1);
  }
  const model = viewer.addModel();
  model.addAtoms(atoms);
  scene.kinds.forEach((kind, k) => {
    model.setStyle({elem: kind.element}, {
      sphere: {radius: 0.85 * kind.radius, color: kind.colour},
      ...(bonds ? {stick: {radius: 0.07, color: kind.colour}} : {}),
    });
  });
  const ink = css("--soft");
  for (const [a, b] of edges(scene.box)) viewer.addLine({start: at(a), end: at(b), color: ink, linewidth: 2});
  if (scene.times.some(n => n > 1)) for (const [a, b] of edges(scene.cell)) viewer.addLine({start: at(a), end: at(b), color: css("--link"), linewidth: 2});
  if (polyhedra) for (const shape of scene.polyhedra) {
    const colour = scene.kinds[shape.kind].colour;
    const where = index => atoms[index];
    // each face has corners of its own, so that it is flat
    const vertexArr = [], normalArr = [], faceArr = [];
    for (const [a, b, c] of shape.faces.map(face => face.map(where))) {
      const normal = cross(minus(b, a), minus(c, a));
      for (const corner of [a, b, c]) {
        faceArr.push(vertexArr.length);
        vertexArr.push({x: corner.x, y: corner.y, z: corner.z});
        normalArr.push(normal);
      }
    }
    viewer.addCustom({vertexArr, normalArr, faceArr, color: colour, opacity: 0.62});
    for (const [i, j] of shape.edges) viewer.addLine({start: where(i), end: where(j), color: colour, linewidth: 1});
  }
  arrows(viewer, scene, at);
  if (home) {
    viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
    viewer.zoomTo();
    // c upwards, a to the right, seen a little from above
    viewer.rotate(-90, "vx"); viewer.rotate(-26, "vy"); viewer.rotate(14, "vx");
    viewer.zoom(scene.atoms.length > 40 ? 0.98 : 1.08);  // it fits centres: spheres reach beyond
  }
  viewer.render();
}

function edges(box) {
  const corner = (i, j, k) => [0, 1, 2].map(d => i * box[0][d] + j * box[1][d] + k * box[2][d]);
  const found = [];
  for (const i of [0, 1]) for (const j of [0, 1]) {
    found.push([corner(0, i, j), corner(1, i, j)], [corner(i, 0, j), corner(i, 1, j)], [corner(i, j, 0), corner(i, j, 1)]);
  }
  return found;
}

function arrows(viewer, scene, at) {
  ["a", "b", "c"].forEach((letter, k) => {
    const vector = scene.cell[k], length = Math.hypot(...vector);
    const end = vector.map(v => v / length * Math.min(1.6, length / 2));
    const colour = ["#d1495b", "#3a9d5d", "#3066be"][k];
    viewer.addArrow({start: at([0, 0, 0]), end: at(end), radius: 0.05, radiusRatio: 2.4, mid: 0.72, color: colour});
    viewer.addLabel(letter, {position: at(end.map(v => v * 1.25)), fontSize: 13, fontColor: colour, showBackground: false, inFront: true});
  });
}

const minus = (a, b) => ({x: a.x - b.x, y: a.y - b.y, z: a.z - b.z});
function cross(a, b) {
  const n = {x: a.y * b.z - a.z * b.y, y: a.z * b.x - a.x * b.z, z: a.x * b.y - a.y * b.x};
  const size = Math.hypot(n.x, n.y, n.z) || 1;
  return {x: n.x / size, y: n.y / size, z: n.z / size};
}
