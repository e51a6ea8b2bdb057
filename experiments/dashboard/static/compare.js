// Two or more runs: their curves in one panel, and the settings in which they differ.

import { ask, colour, el, number, play } from "./base.js";
import { Plot, band, nearestRun, smooth } from "./charts.js";
import { NAMES } from "./overview.js";
import { inOrder } from "./run.js";
import { store, wishes } from "./store.js";

const MOST = 12;

export class ComparePage {
  constructor(host, ids) { this.host = host; this.ids = ids.slice(0, MOST); this.chosen = ids.length; this.plots = []; }
  async open() {
    this.pages = await Promise.all(this.ids.map((id) => ask(`/api/run/${id}`)));
    const charts = await Promise.all(this.ids.map((id) => ask(`/api/run/${id}/charts?axis=${wishes.axis}`)));
    if (this.closed) return;
    const keys = [...new Set(this.pages.flatMap((page) => Object.keys(page.settings)))].sort();
    const differ = keys.filter((key) => new Set(this.pages.map((page) => JSON.stringify(page.settings[key]))).size > 1);
    const marks = [...new Set(this.pages.map((page) => page.run.fingerprint).filter(Boolean))];
    const swatch = (i) => { const s = el("span", { class: "swatch" }); s.style.background = colour(i); return s; };
    const head = this.pages.map((page, i) => el("th", { class: "left" }, swatch(i), " ", el("a", { href: `#/run/${page.run.id}` }, page.run.name)));
    const line = (name, cells) => el("tr", {}, el("td", { class: "left" }, name), ...cells.map((text) => el("td", { class: "left" }, text)));
    const panels = el("div", { class: "panels" });
    this.host.replaceChildren(...[
      el("div", { class: "bar" }, el("h1", {}, `${this.ids.length} runs side by side${this.chosen > MOST ? `, of ${this.chosen} that were chosen` : ""}`), el("a", { href: "#/" }, "all runs")),
      marks.length > 1 ? el("p", { class: "crashed" }, "MIXED FINGERPRINTS: their evaluations were not measured alike and do not compare.") : null,
      panels, el("h2", {}, "Scores and settings that differ"),
      el("div", { class: "card tablewrap" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { class: "left" }, ""), ...head)), el("tbody", {},
        line("evaluation", this.pages.map((page) => number(page.run.evaluation))), line("training score", this.pages.map((page) => number(page.run.training))),
        line("fingerprint", this.pages.map((page) => page.run.fingerprint ?? "")), line("commit", this.pages.map((page) => (page.about.commit ?? "").slice(0, 10))),
        ...differ.map((key) => line(key, this.pages.map((page) => String(page.settings[key] ?? "—"))))))),
    ].filter(Boolean));
    const shared = [...new Set(charts.flatMap((chart) => Object.keys(chart)))].sort(inOrder);
    for (const key of shared) {
      const host = el("div", { class: "plot" });
      panels.append(el("section", { class: "card panel", "aria-label": key }, el("h3", {}, NAMES[key] || key), host));
      const plot = new Plot(host, { axis: wishes.axis, onpick: (one, x, value) => { const found = nearestRun(one.curves, x, value); if (found) play(found.id, found.frames, one.label); } });
      const grid = [...new Set(charts.flatMap((chart) => chart[key]?.x ?? []))].sort((a, b) => a - b);
      plot.draw(grid, charts.flatMap((chart, i) => {
        if (!chart[key]) return [];
        const y = key.startsWith("eval/") ? chart[key].y : smooth(chart[key].y, wishes.smooth);
        return [{ label: this.pages[i].run.name, colour: colour(i), mean: band([{ x: chart[key].x, y }], grid).mean, curves: [{ id: this.ids[i], x: chart[key].x, y, frames: chart[key].frames }] }];
      }));
      this.plots.push(plot);
    }
  }
  async tick() {}
  key(name) { if (name === "Escape") { location.hash = "#/"; return true; } return false; }
  close() { this.closed = true; for (const plot of this.plots) plot.destroy(); }
}
