// Two or more runs: their curves in one panel, and the settings in which they differ.

import { ask, colour, el, lap, number, play, redraw, swatch } from "./base.js";
import { Plot, band, hundredth, nearestRun, smooth } from "./charts.js";
import { NAMES } from "./overview.js";
import { inOrder } from "./run.js";
import { store, titled, wishes } from "./store.js";

const MOST = 12;
const REDRAW = 3;  // ticks from one look at the charts to the next

export class ComparePage {
  constructor(host, ids) { this.host = host; this.ids = ids.slice(0, MOST); this.chosen = ids.length; this.plots = new Map(); this.ticks = 0; }
  async open() {
    this.pages = await Promise.all(this.ids.map((id) => ask(`/api/run/${id}`)));
    await this.look();
    if (this.closed) return;
    this.warning = el("div"); this.panels = el("div", { class: "panels" }); this.table = el("div", { class: "card tablewrap" });
    this.host.replaceChildren(
      el("div", { class: "bar" }, el("h1", {}, `${this.ids.length} runs side by side${this.chosen > MOST ? `, of ${this.chosen} that were chosen` : ""}`), el("a", { href: "#/" }, "all runs")),
      this.warning, this.panels, el("h2", {}, "Scores and settings that differ"), this.table);
    this.draw();
  }
  async look() {
    this.seen = this.ids.map((id) => store.runs.get(id));
    this.charts = await Promise.all(this.ids.map((id) => ask(`/api/run/${id}/charts?axis=${wishes.axis}`)));
  }
  runs() { return this.pages.map((page, i) => store.runs.get(this.ids[i]) ?? page.run); }
  draw() {
    const runs = this.runs(), unlike = (key) => new Set(runs.map((run) => run[key]).filter(Boolean)).size > 1;
    redraw(this.warning, ...(unlike("fingerprint") ? [el("p", { class: "crashed" }, "MIXED FINGERPRINTS: their evaluations were not measured alike and do not compare.")] : []));
    this.drawTable(runs);
    for (const key of [...new Set(this.charts.flatMap((chart) => Object.keys(chart)))].sort(inOrder)) {
      let plot = this.plots.get(key);
      if (!plot) {
        const host = el("div", { class: "plot" }), note = el("span", { class: "quiet" });
        this.panels.append(el("section", { class: "card panel", "aria-label": key }, el("h3", {}, el("span", {}, NAMES[key] || key), note), host));
        plot = new Plot(host, { axis: wishes.axis, onpick: (one, x, value) => { const found = nearestRun(one.curves, x, value); if (found) play(found.id, found.frames, one.label, key); } });
        plot.note = note;
        this.plots.set(key, plot);
      }
      plot.note.textContent = key.startsWith("eval/") && unlike("curve_fingerprint") ? "MIXED FINGERPRINTS" : "";
      const grid = [...new Set(this.charts.flatMap((chart) => chart[key]?.x ?? []))].sort((a, b) => a - b);
      const unit = hundredth(this.charts.map((chart) => chart[key]).filter(Boolean));
      plot.draw(grid, this.charts.flatMap((chart, i) => {
        if (!chart[key]) return [];
        const y = key.startsWith("eval/") ? chart[key].y : smooth(chart[key], wishes.smooth, unit);
        return [{ label: titled(this.pages[i].run), colour: colour(i), lap: lap(i), mean: band([{ x: chart[key].x, y }], grid).mean, curves: [{ id: this.ids[i], x: chart[key].x, y, frames: chart[key].frames }] }];
      }));
    }
  }
  drawTable(runs) {
    const keys = [...new Set(this.pages.flatMap((page) => Object.keys(page.settings)))].sort();
    const differ = keys.filter((key) => new Set(this.pages.map((page) => JSON.stringify(page.settings[key]))).size > 1);
    const head = runs.map((run, i) => el("th", { class: "left" }, swatch(i), " ", el("a", { href: `#/run/${run.id}`, "data-key": run.id }, titled(run))));
    const line = (name, cells) => el("tr", {}, el("td", { class: "left" }, name), ...cells.map((text) => el("td", { class: "left" }, text)));
    redraw(this.table, el("table", {}, el("thead", {}, el("tr", {}, el("th", { class: "left" }, ""), ...head)), el("tbody", {},
      line("evaluation", runs.map((run) => number(run.evaluation))), line("training score", runs.map((run) => number(run.training))),
      line("fingerprint", runs.map((run) => run.fingerprint ?? "")), line("commit", this.pages.map((page) => (page.about.commit ?? "").slice(0, 10))),
      ...differ.map((key) => line(key, this.pages.map((page) => String(page.settings[key] ?? "—")))))));
  }
  async tick() {
    if (++this.ticks % REDRAW || this.ids.every((id, i) => store.runs.get(id) === this.seen[i])) return;
    const gone = this.ids.filter((id) => !store.runs.has(id));
    if (gone.length) return;  // what is left of them stays to be seen
    await this.look();
    if (!this.closed) this.draw();
  }
  key(name) { if (name === "Escape") { location.hash = "#/"; return true; } return false; }
  close() { this.closed = true; for (const plot of this.plots.values()) plot.destroy(); }
}
