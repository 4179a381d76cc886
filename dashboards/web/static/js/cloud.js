// Thousands of points behind a plot, on a plain canvas: they need no WebGL (whose plots in plotly
// compile code from text, which these pages forbid) and stay below what was measured.

/** Keep points {x, y, colour: text or an array, size, alpha, hide} behind a plot of two axes. */
export function cloud(box, points) {
  let canvas = box.parentElement.querySelector(`canvas.cloud[data-of="${box.id}"]`);
  if (!points || !points.x.length) { canvas?.remove(); box.cloud = null; return; }
  if (!canvas) {
    canvas = document.createElement("canvas");
    canvas.className = "cloud";
    canvas.dataset.of = box.id;
    canvas.setAttribute("aria-hidden", "true");
    box.parentElement.insertBefore(canvas, box);
  }
  box.cloud = points;
  canvas.dataset.points = points.x.length;
  if (!box.cloudFollows) {
    box.cloudFollows = true;
    for (const event of ["plotly_afterplot", "plotly_relayouting", "plotly_relayout"]) box.on(event, () => paint(box));
  }
  paint(box);
}

function paint(box) {
  const points = box.cloud, canvas = box.parentElement.querySelector(`canvas.cloud[data-of="${box.id}"]`);
  const layout = box._fullLayout;
  if (!points || !canvas || !layout?.xaxis) return;
  const {xaxis, yaxis} = layout, ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(xaxis._length * ratio);
  canvas.height = Math.round(yaxis._length * ratio);
  Object.assign(canvas.style, {left: `${box.offsetLeft + xaxis._offset}px`, top: `${box.offsetTop + yaxis._offset}px`, width: `${xaxis._length}px`, height: `${yaxis._length}px`});
  const brush = canvas.getContext("2d");
  brush.scale(ratio, ratio);
  brush.globalAlpha = points.alpha ?? 0.5;
  const size = points.size ?? 3, many = Array.isArray(points.colour);
  if (!many) brush.fillStyle = points.colour;
  for (let i = 0; i < points.x.length; i++) {
    const x = xaxis.l2p(points.x[i]), y = yaxis.l2p(points.y[i]);
    if (x < 0 || y < 0 || x > xaxis._length || y > yaxis._length) continue;
    if (many) brush.fillStyle = points.colour[i];
    brush.fillRect(x - size / 2, y - size / 2, size, size);
  }
}

// Viridis (van der Walt and Smith, 2015) at nine places.
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];

/** A colour between low (0) and high (1). */
export function viridis(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), low = Math.min(Math.floor(at), VIRIDIS.length - 2), rest = at - low;
  return `rgb(${VIRIDIS[low].map((v, k) => Math.round(v + rest * (VIRIDIS[low + 1][k] - v))).join(",")})`;
}

/** The range of an axis that holds values, with a margin. */
export function rangeOf(values, pad = 0.05) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  if (!(high >= low)) return undefined;
  const margin = pad * (high - low || Math.abs(high) || 1);
  return [low - margin, high + margin];
}

/** Whether a point lies within a polygon that was drawn: its corners' x and y. */
export function within(x, y, corners) {
  let inside = false;
  for (let i = 0, j = corners.x.length - 1; i < corners.x.length; j = i++) {
    if ((corners.y[i] > y) !== (corners.y[j] > y) && x < (corners.x[j] - corners.x[i]) * (y - corners.y[i]) / (corners.y[j] - corners.y[i]) + corners.x[i]) inside = !inside;
  }
  return inside;
}
