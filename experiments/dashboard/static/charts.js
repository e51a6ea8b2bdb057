// Curves: seeds become a mean with a band, and a click says which run and which frame was meant.

import { colour, dark, el, frames, ink, number } from "./base.js";

export const AXES = { frames: "emulator frames", steps: "agent steps", hours: "hours of training" };

const LAPS = [undefined, [14, 4], [14, 3, 3, 3], [6, 3], [3, 6]];  // colours are ten

// A hundredth of the way that the longest of some curves goes along x.
export const hundredth = (curves) => Math.max(0, ...curves.map(({ x }) => (x.length ? x[x.length - 1] - x[0] : 0))) / 100;

// An exponential mean without the pull of its first value. It forgets by the way along x, for runs have unlike many
// points: after `unit` the part `amount` is left.
export function smooth({ x, y }, amount, unit) {
  if (!amount || !unit) return y;
  let sum = 0, weight = 0;
  return y.map((value, i) => {
    const left = i ? amount ** ((x[i] - x[i - 1]) / unit) : 0;
    sum = left * sum + value; weight = left * weight + 1;
    return sum / weight;
  });
}

// Curves that were measured at nearly the same places, but for those that ended early, are moved to these places: their
// middle. Nearly is a hundredth of the period; curves of a single point each, such as of runs that were evaluated at
// their end only, are together wherever they have it.
export function together(curves) {
  const most = Math.max(0, ...curves.map((curve) => curve.x.length));
  if (curves.length < 2 || !most) return curves;
  const columns = Array.from({ length: most }, (_, i) => curves.filter((curve) => curve.x.length > i).map((curve) => curve.x[i]));
  const first = columns.map((column) => Math.min(...column)), last = columns.map((column) => Math.max(...column));
  const steps = first.slice(1).map((x, i) => x - first[i]).sort((a, b) => a - b), near = steps[steps.length >> 1] / 100;
  if (most > 1 && columns.some((_, i) => last[i] - first[i] > near || last[i - 1] >= first[i])) return curves;
  const middle = columns.map((column) => column.reduce((sum, x) => sum + x, 0) / column.length);
  return curves.map((curve) => ({ ...curve, x: middle.slice(0, curve.x.length), frames: curve.frames ?? curve.x }));
}

function at(x, y, wanted) {  // linear between points, and null where one of them has nothing
  let low = 0, high = x.length - 1;
  if (!x.length || wanted < x[0] || wanted > x[high]) return null;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] <= wanted) low = middle; else high = middle;
  }
  if (x[high] === wanted) return y[high];
  if (x[low] === wanted) return y[low];
  return y[low] === null || y[high] === null ? null : y[low] + ((y[high] - y[low]) * (wanted - x[low])) / (x[high] - x[low]);
}

// All points of some curves, and others, in order. Of those nearer to each other than a 2000th of the whole way, which
// is less than a dot of a screen, one is left; the ends of a curve always are.
function union(curves, others = []) {
  const ends = new Set(curves.filter(({ x }) => x.length).flatMap(({ x }) => [x[0], x[x.length - 1]]));
  const all = [...new Set([...curves.flatMap(({ x }) => x), ...others])].sort((a, b) => a - b);
  const least = (all[all.length - 1] - all[0]) / 2000;
  let before = -Infinity;
  return all.filter((x) => {
    if (x - before < least && !ends.has(x)) return false;
    before = x;
    return true;
  });
}

// The 97.5 % quantile of Student's t: the first two in closed form, then Fisher & Cornish's expansion (1960).
export function student(freedom) {
  if (freedom === 1) return Math.tan(0.475 * Math.PI);
  if (freedom === 2) return 0.95 * Math.sqrt(2 / (1 - 0.95 ** 2));
  const z = 1.959964, z2 = z * z;
  return z + z * (
    (z2 + 1) / 4 / freedom + ((5 * z2 + 16) * z2 + 3) / 96 / freedom ** 2
    + (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384 / freedom ** 3
    + ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) / 92160 / freedom ** 4
  );
}

// The mean and its 95 % t interval where all seeds have come. Where at least half have, `some` is the mean of
// those, for it jumps where one ends; null if there is no such place. `share` is how much of the grid that is.
// Both are of the points where the seeds were measured; between these, at the grid's others, they are linear: an
// interval of interpolated seeds would close where two of them cross.
export function band(curves, grid) {
  const own = union(curves), values = curves.map((curve) => own.map((x) => at(curve.x, curve.y, x)));
  const mean = [], low = [], high = [], some = [];
  for (let i = 0; i < own.length; i++) {
    const there = values.map((row) => row[i]).filter((v) => v !== null);
    const m = there.length ? there.reduce((a, b) => a + b, 0) / there.length : null, all = there.length === curves.length;
    mean.push(all ? m : null);
    some.push(all || 2 * there.length < curves.length ? null : m);
    if (!all || there.length < 2) { low.push(null); high.push(null); continue; }
    const squares = there.reduce((sum, v) => sum + (v - m) ** 2, 0), freedom = there.length - 1;
    const half = student(freedom) * Math.sqrt(squares / freedom / there.length);
    low.push(m - half); high.push(m + half);
  }
  const ends = (i) => some[i] !== null && some[i] !== undefined && mean[i] === null;
  mean.forEach((value, i) => { if (value !== null && (ends(i - 1) || ends(i + 1))) some[i] = value; });  // they meet
  const [m, l, h, s] = [mean, low, high, some].map((row) => grid.map((x) => at(own, row, x)));
  const lone = s.filter((value, i) => value !== null && m[i] === null).length;
  return { mean: m, low: l, high: h, some: lone ? s : null, share: lone / grid.length };
}

// Where the lines of a panel have points: wherever a curve of it has, and evenly between, for what was measured
// elsewhere, such as published curves, and for the pointer.
export function gridOf(curves, points = 100) {
  const own = union(curves);
  if (own.length < 2) return own;
  const low = own[0], high = own[own.length - 1];
  return union(curves, Array.from({ length: points }, (_, i) => low + ((high - low) * i) / (points - 1)));
}

// One plot. `lines`: [{label, colour, lap, x, mean, low, high, some, dashed}] on one grid x.
export class Plot {
  constructor(host, { axis, onpick }) {
    this.host = host; this.axis = axis; this.onpick = onpick; this.lines = [];
    this.tip = el("div", { class: "tip", hidden: true });
    host.style.position = "relative";
    this.watch = new ResizeObserver(() => this.u && this.u.setSize(this.size()));
    this.watch.observe(host);
  }
  size() { return { width: Math.max(this.host.clientWidth, 120), height: Math.max(this.host.clientHeight, 120) }; }
  draw(grid, lines) {
    const few = (values) => values.filter((v) => v !== null).length < 3;  // points, where a line has no length
    const key = JSON.stringify([lines.map((l) => [l.label, l.colour, l.lap, l.dashed, !!l.low, few(l.mean), !!l.some, !!l.some && few(l.some)]), dark()]);
    const data = [grid];
    for (const line of lines) { data.push(line.mean); if (line.low) data.push(line.high, line.low); if (line.some) data.push(line.some); }
    this.lines = lines;
    if (this.u && key === this.key) {  // what somebody has zoomed into stays
      const { min, max } = this.u.scales.x, [old] = this.u.data;
      const zoomed = min > old[0] || max < old[old.length - 1];
      this.u.setData(data, !zoomed);
      if (zoomed) this.u.setScale("x", { min, max });
      return;
    }
    this.key = key;
    if (this.u) this.u.destroy();
    const series = [{}], bands = [];
    this.owner = [null];
    lines.forEach((line, i) => {
      series.push({ stroke: line.colour, width: line.dashed ? 1.5 : 2, dash: line.dashed ? [5, 4] : LAPS[Math.min(line.lap ?? 0, LAPS.length - 1)], points: { show: few(line.mean) }, spanGaps: true });
      this.owner.push(i);
      if (line.low) {
        bands.push({ series: [series.length, series.length + 1], fill: line.colour + "2e" });
        series.push({ points: { show: false }, width: 0 }, { points: { show: false }, width: 0 });
        this.owner.push(null, null);
      }
      if (line.some) {
        series.push({ stroke: line.colour, width: 1.5, dash: [2, 4], points: { show: few(line.some) }, spanGaps: false });
        this.owner.push(i);
      }
    });
    const look = { stroke: ink("--quiet"), grid: { stroke: ink("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const short = this.axis === "hours" ? (x) => `${+x.toFixed(2)} h` : frames;
    this.u = new uPlot({
      ...this.size(), series, bands, scales: { x: { time: false }, y: { range: (_, low, high) => this.range(low, high) } }, legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, dist: 5, click: () => {} } },
      axes: [
        { ...look, values: (_, ticks) => ticks.map(short), size: 28 },
        { ...look, size: (_, values) => 14 + 6.6 * Math.max(2, ...(values || []).map((v) => v.length)), values: (_, ticks) => ticks.map((t) => Math.abs(t) >= 1e4 ? number(t) : String(+t.toPrecision(6))) },
      ],
      hooks: { setCursor: [() => this.hover()], ready: [(u) => u.over.addEventListener("mouseleave", () => { this.tip.hidden = true; })] },
    }, data, this.host);
    this.u.over.append(this.tip);
    let down = null;
    this.u.over.addEventListener("mousedown", (e) => { down = e.clientX; });
    this.u.over.addEventListener("click", (e) => {  // a drag zooms, and two clicks show all again
      clearTimeout(this.soon);
      if (e.detail > 1 || (down !== null && Math.abs(e.clientX - down) >= 5)) return;
      const found = this.nearest();
      this.soon = setTimeout(() => this.pick(found), 250);
    });
  }
  range(low, high) {  // bands are cut that reach further beyond the lines than these reach themselves
    if (low === null) return [null, null];
    const drawn = this.lines.flatMap((line) => [...line.mean, ...(line.some || [])]).filter((v) => v !== null && v !== undefined);
    const least = drawn.reduce((a, b) => Math.min(a, b), Infinity), most = drawn.reduce((a, b) => Math.max(a, b), -Infinity);
    const [bottom, top] = most > least ? [Math.max(low, 2 * least - most), Math.min(high, 2 * most - least)] : [low, high];
    return uPlot.rangeNum(bottom, top, 0.1, true);
  }
  nearest() {  // the line whose point lies nearest to the pointer
    const { left, top, idx } = this.u.cursor;
    if (idx === null || idx === undefined || left < 0) return null;
    let best = null;
    this.owner.forEach((line, s) => {
      const value = line === null ? null : this.u.data[s][idx];
      if (value === null || value === undefined) return;
      const away = Math.abs(this.u.valToPos(value, "y") - top);
      if (!best || away < best.away) best = { away, line: this.lines[line], x: this.u.data[0][idx], value };
    });
    return best;
  }
  hover() {
    const found = this.nearest();
    this.tip.hidden = !found;
    if (!found) return;
    const { left, top } = this.u.cursor, wide = this.u.over.clientWidth;
    const x = this.axis === "hours" ? `${found.x.toFixed(2)} h` : frames(Math.round(found.x));
    this.tip.textContent = `${found.line.label}: ${number(found.value)} at ${x}`;
    this.tip.style.color = found.line.dashed ? ink("--quiet") : found.line.colour;
    this.tip.style.left = left > wide / 2 ? "" : `${left + 12}px`;
    this.tip.style.right = left > wide / 2 ? `${wide - left + 12}px` : "";
    this.tip.style.top = `${Math.max(0, top - 30)}px`;
  }
  pick(found) {
    if (found && this.onpick && !found.line.dashed) this.onpick(found.line, found.x, found.value);
  }
  destroy() { clearTimeout(this.soon); this.watch.disconnect(); if (this.u) this.u.destroy(); }
}

// Which of a group's runs was meant: the one that is nearest there.
export function nearestRun(curves, x, value) {
  let best = null;
  for (const curve of curves) {
    const y = at(curve.x, curve.y, Math.min(Math.max(x, curve.x[0]), curve.x[curve.x.length - 1]));
    if (y !== null && (!best || Math.abs(y - value) < best.away)) best = { curve, away: Math.abs(y - value) };
  }
  if (!best) return null;
  const { curve } = best;
  let i = 0;
  while (i < curve.x.length - 1 && Math.abs(curve.x[i + 1] - x) <= Math.abs(curve.x[i] - x)) i++;
  return { id: curve.id, frames: (curve.frames || curve.x)[i] };
}

