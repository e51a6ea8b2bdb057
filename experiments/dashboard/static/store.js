// What the page knows: runs and curves, brought up to date by what is new.

import { ask, recalled, remember } from "./base.js";

export const store = { runs: new Map(), version: -1, about: null, beats: {}, listeners: new Set() };

export async function loadAbout() {
  const known = new Map([...store.runs.values()].map((run) => [run.id, run.frames]));
  store.about = await ask("/api/about");
  store.known = known;
}

// Whether a run is new, has begun, or has come twice as far: its figures begin with its rows, those of learning later.
export const aboutIsOld = () => [...store.runs.values()].some((run) => run.frames > 2 * (store.known.get(run.id) ?? -1));

export async function refreshRuns() {
  const found = await ask(`/api/runs?since=${store.version}`);
  if (store.version >= 0 && found.server !== store.server) { store.runs.clear(); store.version = -1; return refreshRuns(); }  // it was started anew
  store.server = found.server;
  store.version = found.version; store.beats = found.beats;
  for (const run of found.runs) store.runs.set(run.id, run);
  for (const id of found.gone) store.runs.delete(id);
  return found.runs.length + found.gone.length > 0;
}

// Curves of one metric over one axis; only new points travel.
export class Curves {
  constructor(metric, axis) { this.metric = metric; this.axis = axis; this.version = -1; this.all = new Map(); }
  async refresh() {
    const query = new URLSearchParams({ metric: this.metric, axis: this.axis, since: this.version });
    const found = await ask(`/api/curves?${query}`);
    if (this.version >= 0 && found.server !== this.server) { this.version = -1; this.all.clear(); return this.refresh(); }
    this.server = found.server;
    this.version = found.version;
    for (const { id, anew, x, y, frames } of found.curves) {
      const known = this.all.get(id);
      if (anew || !known) this.all.set(id, { id, x, y, frames });
      else { known.x.push(...x); known.y.push(...y); if (frames) known.frames.push(...frames); }
    }
    return found.curves.length > 0;
  }
}

// A run's name with its folder's: suites call their runs alike.
export const titled = (run) => (run.folder ? `${run.folder}/${run.name}` : run.name);

// In order of their directories, as agents of a comparison are.
export function inOrderOfPaths(runs) {
  const parts = new Map(runs.map((run) => [run, titled(run).split("/")]));
  return [...runs].sort((a, b) => {
    const [mine, theirs] = [parts.get(a), parts.get(b)], i = mine.findIndex((part, at) => part !== theirs[at]);
    return i < 0 ? 0 : theirs[i] === undefined || mine[i] > theirs[i] ? 1 : -1;
  });
}

const KEEP = ["metric", "axis", "group", "split", "smooth", "normal", "filter", "published", "suite"];
export const wishes = { metric: "charts/episodic_return", axis: "frames", group: "agent", split: "game", smooth: 0.3, normal: false, filter: "", published: [], suite: null };
try { Object.assign(wishes, JSON.parse(recalled("highscore") || "{}")); } catch { /* a stranger's */ }
wishes.filter = "";
export function keep() {
  remember("highscore", JSON.stringify(Object.fromEntries(KEEP.map((key) => [key, wishes[key]]))));
}
