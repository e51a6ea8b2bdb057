// The first page: curves by game and agent, and every run in a table.

import { ask, colour, el, frames, lap, number, play, pressed, redraw, swatch } from "./base.js";
import { AXES, Plot, band, gridOf, hundredth, nearestRun, smooth, together } from "./charts.js";
import { Curves, inOrderOfPaths, keep, store, titled, wishes } from "./store.js";

const FIRST_PANELS = 12, FIRST_ROWS = 60;
const SCORES = ["charts/episodic_return", "eval/mean", "eval/median"];  // what published curves compare with
const STATUSES = ["running", "finished", "stopped", "crashed", "silent", "damaged"];

// What somebody has asked of this page, which outlasts a look at another.
const asked = { chosen: new Set(), hidden: new Set(), status: new Set(), sort: ["created", -1] };
const seedOf = (run) => (run ? `${run.agent}\n${run.game}\n${run.seed}` : "");
const metrics = () => store.about.metrics.map((name) => [name, NAMES[name] || name]);
const references = () => [["", "none"], ...[...new Set(Object.values(store.about.curves).flat())].map((name) => [name, name])];
function fill(select, options, chosen) {
  const key = JSON.stringify(options);
  if (select.dataset.options === key) return;  // a list that somebody has open stays as it is
  select.dataset.options = key;
  select.replaceChildren(...options.map(([value, text]) => el("option", { value, textContent: text, selected: value === chosen })));
}

export class Overview {
  constructor(host) {
    this.host = host; this.plots = new Map(); this.at = 0; this.under = ""; this.all = false; this.allPanels = false;
    this.published = new Map();
    this.curves = new Curves(wishes.metric, wishes.axis);
  }
  async open() {
    await this.curves.refresh();
    if (this.closed) return;
    this.build();
    this.update();
  }
  pick(name, words, options, change) {
    const select = el("select", { onchange: () => { wishes[name] = select.value; keep(); change(); } });
    this.selects[name] = select;
    fill(select, options, wishes[name]);
    return el("label", {}, words, select);
  }
  groupings() {
    const settings = Object.keys(store.about.settings).filter((k) => !["game", "seed", "preset", "protocol"].includes(k));
    return [["agent", "agent"], ["preset", "preset"], ["game", "game"], ["seed", "seed"], ["name", "each run"], ["folder", "suite"], ["protocol", "protocol"], ...settings.map((k) => [k, k])];
  }
  check(groups) {
    if (!groups.some(([key]) => key === wishes.group)) wishes.group = "agent";  // chosen where other runs were
    if (!store.about.metrics.includes(wishes.metric)) {
      wishes.metric = store.about.metrics[0];
      this.curves = new Curves(wishes.metric, wishes.axis);
      this.curves.refresh().then(() => this.closed || this.update());
    }
  }
  offer() {  // what there is to choose from may have become more; what is chosen stays so
    this.about = store.about;
    const groups = this.groupings();
    this.check(groups);
    fill(this.selects.metric, metrics(), wishes.metric);
    fill(this.selects.group, groups, wishes.group);
    fill(this.selects.published, references(), wishes.published[0] ?? "");
  }
  build() {
    this.selects = {}; this.about = store.about;
    const groups = this.groupings();
    this.check(groups);
    const again = () => { this.curves = new Curves(wishes.metric, wishes.axis); this.drop(); this.curves.refresh().then(() => this.closed || this.update()); };
    const anew = () => { this.drop(); this.update(); };
    this.search = el("input", { type: "search", placeholder: "filter, such as dqn pong s1   ( / )", value: wishes.filter, "aria-label": "filter runs", oninput: () => { wishes.filter = this.search.value; this.update(); } });
    this.chips = el("span", { class: "bar wide" });
    const slider = el("input", { type: "range", min: 0, max: 0.95, step: 0.05, value: wishes.smooth, "aria-label": "smoothing", oninput: () => { wishes.smooth = +slider.value; keep(); this.drawPanels(); } });
    const normal = el("input", { type: "checkbox", checked: wishes.normal, onchange: () => { wishes.normal = normal.checked; keep(); anew(); } });
    const reference = el("select", { "aria-label": "published curve", onchange: () => { wishes.published = reference.value ? [reference.value] : []; keep(); anew(); } });
    this.selects.published = reference;
    fill(reference, references(), wishes.published[0] ?? "");
    const view = el("details", { class: "bar", open: innerWidth > 640 }, el("summary", {}, "view ▾"),
      this.pick("metric", "show", metrics(), again),
      this.pick("axis", "over", Object.entries(AXES), again),
      this.pick("group", "lines", groups, anew),
      this.pick("split", "panels", [["game", "game"], ["agent", "agent"], ["folder", "suite"], ["", "one for all"]], anew),
      el("label", {}, "smooth", slider), el("label", { title: "0 is random play, 1 a human" }, normal, "human-normalised"),
      el("label", {}, "published", reference));
    view.append(el("span", { class: "quiet few" }, "A click on a curve plays the episode recorded nearest to it."));
    this.tools = el("div", { class: "bar" }, this.search, this.chips, view);
    this.legend = el("div", { class: "legend" });
    this.panels = el("div", { class: "panels" });
    this.more = el("div", { class: "bar" });
    this.actions = el("div", { class: "bar" });
    this.table = el("div", { class: "card tablewrap" });
    this.host.replaceChildren(this.tools, this.legend, this.panels, this.more, el("h2", {}, "Runs"), this.actions, this.table);
  }
  drop() { for (const plot of this.plots.values()) plot.destroy(); this.plots.clear(); this.panels?.replaceChildren(); }
  close() { this.closed = true; this.drop(); }
  value(run, key) {
    const row = store.about.settings[key];  // frames, say, are those that it is to play, not those played so far
    return key === "name" ? titled(run) : String((row && run.id in row ? row[run.id] : run[key]) ?? "");
  }
  visible() {
    const words = wishes.filter.toLowerCase().split(/\s+/).filter(Boolean);
    return [...store.runs.values()].filter((run) => {
      if (asked.status.size && !asked.status.has(run.status)) return false;
      const text = `${run.name} ${run.agent} ${run.game} s${run.seed} ${run.protocol} ${run.status} ${run.folder}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
  }
  async tick(changed) {
    const moved = await this.curves.refresh();
    this.stale ||= moved || changed;
    this.renew();
  }
  renew() {  // what is new is shown, but not under a pointer that is down
    if (!this.stale || this.closed || pressed()) return;
    this.stale = false;
    if (this.about !== store.about) this.offer();
    this.update();
  }
  update() {
    this.runs = this.visible();
    for (const id of asked.chosen) if (!store.runs.has(id)) asked.chosen.delete(id);
    if (!store.runs.size) {
      this.drop();
      this.panels.replaceChildren(el("p", { class: "quiet" }, "No run here yet. They appear as soon as one begins: highscore train dqn --game Breakout"));
    } else this.panels.querySelector(":scope > p")?.remove();
    const counts = Object.fromEntries(STATUSES.map((s) => [s, 0]));
    for (const run of store.runs.values()) counts[run.status]++;
    redraw(this.chips, ...STATUSES.filter((s) => counts[s] || asked.status.has(s)).map((s) => el("button", {
      class: `chip${asked.status.has(s) ? " on" : ""}`, "data-key": s, "aria-pressed": asked.status.has(s),
      onclick: () => { if (!asked.status.delete(s)) asked.status.add(s); this.update(); },
    }, el("span", { class: `status ${s}` }, `${counts[s]} ${s}`))));
    this.groups = this.groupsOf(this.runs);
    redraw(this.legend, ...this.groups.slice(0, 24).map((name, i) => {
      return el("button", { class: asked.hidden.has(name) ? "off" : "", "data-key": name, title: "hide or show", onclick: () => { if (!asked.hidden.delete(name)) asked.hidden.add(name); this.update(); } }, swatch(i), name || "(none)");
    }), ...(this.groups.length > 24 ? [el("span", { class: "quiet" }, `and ${this.groups.length - 24} more`)] : []),
      ...wishes.published.map((name) => el("button", { disabled: true }, el("span", { class: "swatch dashed" }), `${name}, published`)));
    this.drawPanels();
    this.drawTable();
  }
  groupsOf(runs) {  // agents are coloured as in the figures of `highscore compare`
    const names = (found) => [...new Set(found.map((run) => this.value(run, wishes.group)))];
    return wishes.group === "agent" ? names(inOrderOfPaths(runs)) : names(runs).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  }
  scaled(run, curve) {
    const scale = store.about.scales[run.game];
    if (!wishes.normal || !SCORES.includes(wishes.metric)) return { ...curve, game: run.game };
    if (!scale) return null;  // a raw score is not to be averaged with normalised ones
    return { ...curve, y: curve.y.map((v) => (v - scale[0]) / (scale[1] - scale[0])) };
  }
  drawPanels() {
    if (!store.runs.size) return;
    const bySplit = new Map();
    for (const run of this.runs) {
      const curve = this.curves.all.get(run.id), group = this.value(run, wishes.group);
      if (!curve || !curve.x.length || asked.hidden.has(group)) continue;
      const scaled = this.scaled(run, curve);
      if (!scaled) continue;
      const split = wishes.split ? this.value(run, wishes.split) : "all runs";
      if (!bySplit.has(split)) bySplit.set(split, new Map());
      const lines = bySplit.get(split);
      if (!lines.has(group)) lines.set(group, []);
      lines.get(group).push(scaled);
    }
    const names = [...bySplit.keys()].sort();
    const shown = this.allPanels ? names : names.slice(0, FIRST_PANELS);
    for (const [name, plot] of this.plots) if (!shown.includes(name)) { plot.destroy(); plot.card.remove(); this.plots.delete(name); }
    for (const name of shown) this.drawPanel(name, bySplit.get(name), shown.length === 1);
    redraw(this.more, ...(names.length > shown.length ? [el("button", { "data-key": "all", onclick: () => { this.allPanels = true; this.update(); } }, `show all ${names.length} panels`)] : []));
  }
  drawPanel(name, byGroup, alone) {
    let plot = this.plots.get(name);
    if (!plot) {
      const host = el("div", { class: "plot" }), note = el("span", { class: "quiet" });
      const card = el("section", { class: "card panel", "aria-label": name }, el("h3", {}, el("span", {}, name), note), host);
      const before = [...this.plots.keys()].filter((n) => n > name).sort()[0];
      this.panels.insertBefore(card, before ? this.plots.get(before).card : null);
      plot = new Plot(host, { axis: wishes.axis, onpick: (line, x, value) => this.picked(line, x, value) });
      plot.card = card; plot.note = note;
      this.plots.set(name, plot);
    }
    plot.card.classList.toggle("one", alone);
    const everything = [...byGroup.values()].flat();
    const unit = hundredth(everything);
    const drawn = new Map([...byGroup].map(([group, curves]) => [group, together(curves).map((curve) => (
      wishes.metric.startsWith("eval/") ? curve : { ...curve, y: smooth(curve, wishes.smooth, unit) }))]));
    const grid = gridOf([...drawn.values()].flat());
    let unlike = false;
    const lines = this.groups.filter((g) => byGroup.has(g)).map((group) => {
      const curves = drawn.get(group), several = curves.length > 1;
      const alike = !SCORES.includes(wishes.metric) || new Set(curves.map((c) => c.game)).size < 2;  // raw scores of several games have no mean
      const { mean, low, high, some, share } = alike ? band(curves, grid) : band([], grid);
      unlike ||= !alike;
      return { label: group, curves, colour: colour(this.groups.indexOf(group)), lap: lap(this.groups.indexOf(group)), mean, some, share, low: several ? low : null, high: several ? high : null };
    });
    for (const agent of wishes.published) {
      const curve = wishes.split === "game" && wishes.axis !== "hours" && SCORES.includes(wishes.metric) ? this.reference(agent, name) : null;
      if (curve) {
        const unit = wishes.axis === "steps" ? 250000 : 1e6, scale = store.about.scales[name];
        const y = wishes.normal && scale ? curve.mean.map((v) => (v - scale[0]) / (scale[1] - scale[0])) : curve.mean;
        const { mean } = band([{ x: curve.middle.map((m) => m * unit), y }], grid);
        lines.push({ label: `${agent}, published (${curve.protocol})`, colour: "#8a8a8a", mean, dashed: true });
      }
    }
    const seeds = Math.max(...[...byGroup.values()].map((c) => c.length));
    const marks = new Set(everything.map((c) => store.runs.get(c.id)?.curve_fingerprint).filter(Boolean));
    const again = [...byGroup.values()].some((curves) => new Set(curves.map((c) => seedOf(store.runs.get(c.id)))).size < curves.length) ? ", SEEDS TWICE" : "";
    const mixed = wishes.metric.startsWith("eval/") && marks.size > 1 ? ", MIXED FINGERPRINTS" : "";
    plot.note.textContent = `${NAMES[wishes.metric] || wishes.metric}${unlike ? ", raw scores of several games: no mean" : seeds > 1 ? `, 95 % over runs${lines.some((line) => line.share > 0.05) ? ", dotted where not all have come" : ""}` : ""}${mixed}${again}`;
    plot.draw(grid, lines);
  }
  reference(agent, game) {
    const key = `${agent}\n${game}`;
    if (!(store.about.curves[game] || []).includes(agent)) return null;
    if (!this.published.has(key)) {
      this.published.set(key, null);
      ask(`/api/published?${new URLSearchParams({ agent, game })}`).then((curve) => { this.published.set(key, curve); this.stale = true; this.renew(); }, () => {});
    }
    return this.published.get(key);
  }
  picked(line, x, value) {
    const found = nearestRun(line.curves, x, value);
    if (found) play(found.id, found.frames, store.runs.get(found.id)?.name ?? line.label, wishes.metric);
  }
  drawTable() {
    const [key, way] = asked.sort;
    const order = (run) => (key === "name" ? titled(run) : run[key]) ?? (way < 0 ? -Infinity : Infinity);
    const rows = [...this.runs].sort((a, b) => way * (typeof order(a) === "string" ? order(a).localeCompare(order(b), "en", { numeric: true }) : order(a) - order(b)));
    this.rows = rows;
    const there = rows.findIndex((run) => run.id === this.under);  // the keys' run, wherever it is by now
    this.at = there >= 0 ? there : Math.min(this.at, Math.max(rows.length - 1, 0));
    const shown = this.all ? rows : rows.slice(0, FIRST_ROWS), usual = commonest(rows);
    const otherwise = (run) => run.fingerprint && run.fingerprint !== usual.get(run.game);
    const head = COLUMNS.map(([name, words, more]) => el("th", { class: more, "aria-sort": key === name ? (way > 0 ? "ascending" : "descending") : "none" },
      name ? el("button", { "data-key": `sort ${name}`, onclick: () => { asked.sort = [name, key === name ? -way : name === "name" ? 1 : -1]; this.drawTable(); } }, words + (key === name ? (way > 0 ? " ↑" : " ↓") : "")) : words));
    const body = shown.map((run, i) => {
      const box = el("input", { type: "checkbox", "data-key": `choose ${run.id}`, checked: asked.chosen.has(run.id), "aria-label": `choose ${run.name}`, onchange: () => { this.choose(run.id); } });
      const part = run.whole ? Math.min(100, (100 * run.frames) / run.whole) : 0, fill = el("i");
      fill.style.width = `${part}%`;
      return el("tr", { class: i === this.at && this.keys ? "at" : "" },
        el("td", { class: "left" }, box), el("td", { class: "left name", title: titled(run) }, el("a", { href: `#/run/${run.id}`, "data-key": `open ${run.id}` }, titled(run))),
        el("td", { class: "left" }, el("span", { class: `status ${run.status}`, title: store.beats[run.id] !== undefined ? `wrote ${Math.round(store.beats[run.id])} s ago` : "" }, run.status)),
        el("td", { class: "left few agent", title: run.agent }, run.agent), el("td", { class: "left few" }, run.game), el("td", {}, `${run.seed}`),
        el("td", {}, frames(run.frames), el("span", { class: "meter few", title: `${part.toFixed(0)} %` }, fill)),
        el("td", {}, number(run.training)),
        el("td", { title: run.fingerprint ? `${run.measured}, fingerprint ${run.fingerprint}` : "" }, number(run.evaluation) + (otherwise(run) ? " †" : "")),
        el("td", { class: "few" }, run.normalised === null ? "" : `${(100 * run.normalised).toFixed(0)} %`), el("td", { class: "few" }, number(run.speed)));
    });
    redraw(this.table, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body)),
      ...(rows.length > shown.length ? [el("button", { "data-key": "all", onclick: () => { this.all = true; this.drawTable(); } }, `show all ${rows.length} runs`)] : []));
    redraw(this.actions,
      el("span", { class: "quiet" }, `${rows.length} of ${store.runs.size} runs${rows.some(otherwise) ? "; † evaluated otherwise than most of the game's, and not to be compared with them" : ""}`),
      el("button", { class: "main", "data-key": "compare", disabled: asked.chosen.size < 2, onclick: () => this.compare() }, asked.chosen.size > 1 ? `Compare ${asked.chosen.size} (c)` : "Choose two or more to compare"),
      ...(asked.chosen.size ? [el("button", { "data-key": "none", onclick: () => { asked.chosen.clear(); this.drawTable(); } }, "none")] : []));
  }
  choose(id) { if (!asked.chosen.delete(id)) asked.chosen.add(id); this.drawTable(); }
  compare() { if (asked.chosen.size > 1) location.hash = `#/compare/${[...asked.chosen].join(",")}`; }
  key(name) {
    if (name === "/") { this.search.focus(); this.search.select(); return true; }
    if (name === "j" || name === "k") {
      this.at = Math.max(0, Math.min(this.rows.length - 1, this.at + (this.keys ? (name === "j" ? 1 : -1) : 0)));
      this.all ||= this.at >= FIRST_ROWS;
      this.keys = true; this.under = this.rows[this.at]?.id ?? ""; this.drawTable();
      this.table.querySelector("tr.at")?.scrollIntoView({ block: "nearest" });
      return true;
    }
    const run = this.rows[this.at];
    if (name === "x" && run) { this.keys = true; this.under = run.id; this.choose(run.id); return true; }
    if (name === "Enter" && this.keys && run) { location.hash = `#/run/${run.id}`; return true; }
    if (name === "c") { this.compare(); return true; }
    return false;
  }
}

function commonest(runs) {  // fingerprint of evaluations, by game
  const counts = new Map(), most = new Map();
  for (const { game, fingerprint } of runs) {
    if (!fingerprint) continue;
    const key = `${game}\n${fingerprint}`, count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    if (count > (counts.get(`${game}\n${most.get(game)}`) ?? 0)) most.set(game, fingerprint);
  }
  return most;
}

const COLUMNS = [["", "", "left"], ["name", "run", "left"], ["status", "status", "left"], ["agent", "agent", "left few"], ["game", "game", "left few"], ["seed", "seed", ""], ["frames", "frames", ""], ["training", "training", ""], ["evaluation", "evaluation", ""], ["normalised", "of a human", "few"], ["speed", "frames/s", "few"]];
export const NAMES = { "charts/episodic_return": "training score", "eval/mean": "evaluation score", "eval/median": "evaluation, median", "eval/human_normalised_mean": "evaluation, human-normalised", "losses/loss": "loss", "losses/q_values": "Q values", "charts/epsilon": "epsilon", "charts/FPS": "frames per second", "charts/SPS": "agent steps per second", "charts/episodes": "episodes", "charts/updates": "updates" };
