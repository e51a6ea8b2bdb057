// One run: its charts, configuration, evaluations, checkpoints, films and log.

import { ask, colour, el, frames, number, play, redraw, show, watch } from "./base.js";
import { AXES, Plot, hundredth, nearestRun, smooth } from "./charts.js";
import { NAMES } from "./overview.js";
import { keep, store, wishes } from "./store.js";

const FIRST = ["charts/episodic_return", "eval/mean", "losses/loss", "losses/td_loss", "losses/q_values", "charts/FPS"];
export const inOrder = (a, b) => ((FIRST.indexOf(a) + 1 || 99) - (FIRST.indexOf(b) + 1 || 99)) || a.localeCompare(b);
const REDRAW = 2;  // ticks from one look at the charts to the next

export class RunPage {
  constructor(host, id) { this.host = host; this.id = id; this.plots = new Map(); this.ticks = 0; }
  async open() {
    this.data = await ask(`/api/run/${this.id}`);
    this.charts = await ask(`/api/run/${this.id}/charts?axis=${wishes.axis}`);
    if (this.closed) return;
    this.build();
    this.draw();
  }
  build() {
    const { run, path, about, settings } = this.data;
    this.head = el("div", { class: "bar" });
    this.panels = el("div", { class: "panels" });
    const axis = el("select", { onchange: async () => { wishes.axis = axis.value; keep(); this.drop(); this.charts = await ask(`/api/run/${this.id}/charts?axis=${wishes.axis}`); if (!this.closed) this.draw(); } });
    for (const [value, text] of Object.entries(AXES)) axis.append(el("option", { value, textContent: text, selected: wishes.axis === value }));
    const slider = el("input", { type: "range", min: 0, max: 0.95, step: 0.05, value: wishes.smooth, oninput: () => { wishes.smooth = +slider.value; keep(); this.draw(); } });
    const live = el("button", { class: "main", onclick: () => watch(live, this.id, "", this.data.path) }, "Watch it play");
    const find = el("input", { type: "search", placeholder: "setting", "aria-label": "find a setting", oninput: () => list() });
    const rows = el("tbody");
    const list = () => rows.replaceChildren(...Object.entries(settings).filter(([key, value]) => `${key} ${value}`.includes(find.value)).map(([key, value]) => el("tr", {}, el("td", { class: "left" }, key), el("td", { class: "left wrap" }, String(value)))));
    list();
    this.log = el("pre"); this.scores = el("div", { class: "card scroll" });
    this.films = el("div", { class: "videos" }); this.saved = el("p"); this.hint = el("span", { class: "quiet" });
    this.host.replaceChildren(
      this.head,
      el("p", {}, el("code", { class: "command", title: path }, about.command || path)),
      el("div", { class: "bar" }, live, el("label", {}, "over", axis), el("label", {}, "smooth", slider),
        this.hint),
      this.panels,
      el("h2", {}, "About it"),
      el("div", { class: "columns" },
        el("div", { class: "card" }, el("h2", {}, "Configuration"), el("p", {}, find), el("div", { class: "scroll tablewrap" }, el("table", {}, rows))),
        el("div", { class: "card" }, el("h2", {}, "Evaluations"), this.scores, el("h2", {}, "Films"), this.films,
          el("h2", {}, "Checkpoints"), this.saved,
          el("h2", {}, "Where and when"), el("div", { class: "tablewrap" }, el("table", {}, ...facts(about, path)))),
        el("div", { class: "card" }, el("h2", {}, "Log"), this.log)));
    this.drawFound(this.data);
    this.drawHead(run);
  }
  drawFound({ evaluations, checkpoints, videos, log, recorded }) {  // what a run that goes on has more of
    this.drawScores(evaluations);
    this.hint.textContent = recorded ? "Click a point of a curve: the episode nearest to it is played." : "";
    this.saved.textContent = checkpoints.map((c) => `${c.agent_steps.toLocaleString("en")} agent steps (${(c.bytes / 1e6).toFixed(1)} MB)`).join(", ") || "none yet";
    redraw(this.films, ...(videos.length ? videos.slice(0, 40).map((name) => el("button", { "data-key": name, onclick: () => show(el("h2", {}, name), el("video", { src: `/video/${this.id}/${encodeURIComponent(name)}`, controls: true, autoplay: true, muted: true })) }, `▶ ${name.replace(/^0+(?=\d)/, "")}`)) : [el("span", { class: "quiet" }, "none yet")]));
    const down = this.log.scrollTop + this.log.clientHeight >= this.log.scrollHeight - 5, said = log || "nothing was said";
    if (this.log.textContent !== said) this.log.textContent = said;  // what is selected in it stays so
    if (down) this.log.scrollTop = this.log.scrollHeight;
  }
  drawHead(run) {
    const beat = store.beats[this.id];
    this.head.replaceChildren(el("h1", {}, run.name), el("span", { class: `status ${run.status}` }, run.status + (beat !== undefined ? `, wrote ${Math.round(beat)} s ago` : "")),
      el("span", { class: "quiet" }, `${run.agent} on ${run.game}, ${run.protocol}, seed ${run.seed}: ${frames(run.frames)} of ${frames(run.whole)} frames${run.speed && run.status === "running" ? `, ${number(run.speed)} frames/s` : ""}`));
  }
  drawScores(evaluations) {
    if (!evaluations.length) { this.scores.replaceChildren(el("p", { class: "quiet" }, " none yet")); return; }
    const rows = [...evaluations].reverse().map((one) => el("tr", { title: Object.entries(one.fingerprint).map(([k, v]) => `${k}: ${v}`).join("\n") },
      el("td", {}, frames(one.frames || 0)), el("td", {}, number(one.mean), " ", el("span", { class: "interval" }, one.mean_interval ? `[${one.mean_interval.map(number).join(", ")}]` : "")),
      el("td", {}, one.human_normalised_mean === null || one.human_normalised_mean === undefined ? "" : `${(100 * one.human_normalised_mean).toFixed(0)} %`),
      el("td", { class: "left" }, `${one.fingerprint.protocol ?? ""}${one.checkpoint === "best" ? ", best checkpoint" : ""}`)));
    this.scores.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, ...["frames", "score", "of a human", "under"].map((w) => el("th", {}, w)))), el("tbody", {}, ...rows)));
  }
  draw() {
    const names = Object.keys(this.charts).sort(inOrder);
    for (const name of names) {
      let plot = this.plots.get(name);
      if (!plot) {
        const host = el("div", { class: "plot" });
        const card = el("section", { class: "card panel", "aria-label": name }, el("h3", {}, el("span", {}, NAMES[name] || name), el("span", { class: "quiet" }, name)), host);
        this.panels.append(card);
        plot = new Plot(host, { axis: wishes.axis, onpick: (line, x, value) => { const found = nearestRun(line.curves, x, value); if (found) play(this.id, found.frames, this.data.run.name, name); } });
        this.plots.set(name, plot);
      }
      const { x, y, frames: at } = this.charts[name], sparse = name.startsWith("eval/");
      const shown = sparse ? y : smooth({ x, y }, wishes.smooth, hundredth([{ x }]));
      plot.draw(x, [{ label: NAMES[name] || name, colour: colour(sparse ? 1 : 0), mean: shown, curves: [{ id: this.id, x, y: shown, frames: at }] }]);
    }
  }
  async tick() {
    const run = store.runs.get(this.id);
    if (!run) { this.gone(); return; }
    this.drawHead(run);
    if (run.status === "running" ? ++this.ticks % REDRAW : run === this.seen) return;
    this.charts = await ask(`/api/run/${this.id}/charts?axis=${wishes.axis}`);
    if (this.closed) return;
    this.draw();
    const fresh = await ask(`/api/run/${this.id}`);
    if (this.closed) return;
    this.drawFound(fresh);
    this.seen = run;
  }
  gone() {
    this.drop();
    this.host.replaceChildren(el("h1", {}, "This run is gone"), el("p", {}, "Its directory was removed. ", el("a", { href: "#/" }, "All runs")));
  }
  key(name) { if (name === "Escape") { location.hash = "#/"; return true; } return false; }
  drop() { for (const plot of this.plots.values()) plot.destroy(); this.plots.clear(); this.panels?.replaceChildren(); }
  close() { this.closed = true; this.drop(); }
}

function facts(about, path) {
  const rows = { directory: path, commit: about.commit, begun: about.created, device: about.device, ...about.versions, ...about.machine };
  return Object.entries(rows).filter(([, value]) => value !== undefined && value !== null).map(([key, value]) => el("tr", {}, el("td", { class: "left" }, key), el("td", { class: "left wrap" }, String(value))));
}
