// Agents by human-normalised score, apart for every fingerprint, with published columns beside them.

import { ask, el, frames, number, pressed, redraw } from "./base.js";
import { keep, store, wishes } from "./store.js";

const STATS = ["IQM", "median", "mean", "optimality gap"];

export class LeaderboardPage {
  constructor(host) { this.host = host; }
  async open() { await this.load(); }
  async load(asked = true) {
    wishes.board ??= [];
    const query = wishes.board.map((name) => `published=${encodeURIComponent(name)}`).join("&");
    const boards = await ask(`/api/leaderboard?${query}`), shown = JSON.stringify(boards);
    if (this.closed || (!asked && shown === this.shown)) return;
    if (!asked && pressed()) { this.stale = true; return; }
    this.shown = shown;
    const add = el("select", { "data-key": "add", "aria-label": "published agent", onchange: () => { if (add.value) { wishes.board.push(add.value); add.blur(); this.load(); } } },
      el("option", { value: "", textContent: "add a published agent…" }), ...store.about.published.filter((name) => !wishes.board.includes(name)).map((name) => el("option", { value: name, textContent: name })));
    const chips = wishes.board.map((name) => el("button", { class: "chip on", "data-key": name, title: "remove", onclick: () => { wishes.board = wishes.board.filter((n) => n !== name); this.load(); } }, `${name} ✕`));
    redraw(this.host, el("div", { class: "bar" }, el("h1", {}, "Leaderboard"), add, ...chips),
      el("p", { class: "quiet" }, "Evaluations of each run's last weights, a board for every way of measuring; 0 is random play, 1 a human. Bars are 95 % stratified bootstrap intervals over seeds. Agents are ranked over the games that most of them have played. Scores under different fingerprints stand apart: they do not compare."),
      ...(boards.length ? boards.map(board) : [el("p", {}, "No run with human-normalised scores has been evaluated yet.")]));
  }
  async tick(changed) {
    this.stale ||= changed;
    if (!this.stale || this.host.querySelector("select:focus")) return;  // somebody is choosing
    this.stale = false;
    await this.load(false);
  }
  key(name) { if (name === "Escape") { location.hash = "#/"; return true; } return false; }
  close() { this.closed = true; }
}

const two = (x) => (Math.round(100 * x) / 100 + 0).toFixed(2);  // never -0.00
const many = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function board(data) {
  const rows = [...data.rows, ...data.published];
  const ends = Object.fromEntries(STATS.map((s) => [s, Math.max(...data.rows.filter((r) => r[s]).map((r) => (r[s].interval ? r[s].interval[1] : r[s].value)), 0.01) * 1.15]));
  const cell = (row, s, published) => {
    if (!row[s]) return el("td", { class: "quiet", title: "published scores are means of runs, and this is not worked out from means" }, "");
    const { value, interval } = row[s], track = el("span", { class: `track few${published ? " published" : ""}` });
    const place = (x) => `${Math.max(0, Math.min(100, (100 * x) / ends[s]))}%`;
    if (interval) { const bar = el("i"); bar.style.left = place(interval[0]); bar.style.right = `calc(100% - ${place(interval[1])})`; track.append(bar); }
    const mark = el("b"); mark.style.left = place(value); track.append(mark);
    return el("td", {}, two(value), " ", el("span", { class: "interval" }, interval ? `[${interval.map(two).join(", ")}]` : ""), track);
  };
  const { unequal } = data;
  const runs = (row) => el("td", { class: "few", title: row.frames ? `scored after ${[...new Set(row.frames.map(frames))].join(" to ")} frames` : "" },
    row.runs ?? "", row.frames && unequal ? el("div", { class: "interval" }, `${[...new Set(row.frames.map(frames))].join(" to ")} frames`) : null, row.unfinished ? el("div", { class: "interval" }, `${row.unfinished} not finished`) : null);
  const line = (row, published) => el("tr", {},
    el("td", { class: "left wrap" }, row.agent, published ? el("div", { class: "interval" }, `published: ${row.protocol}; ${row.source}`) : null),
    ...(row.mean ? STATS.map((s) => cell(row, s, published)) : [el("td", { class: "left quiet", colSpan: STATS.length }, "has not played all of these games")]),
    el("td", { class: "few" }, `${row.games.length}${row.games.length < data.games.length ? ` of ${data.games.length}` : ""}`), runs(row));
  const games = data.games.map((game) => {
    const best = Math.max(...data.rows.map((r) => r.means[game] ?? -Infinity));
    return el("tr", {}, el("td", { class: "left" }, game), ...rows.map((r) => el("td", {}, r.means[game] === undefined ? "" : r.means[game] === best && rows.indexOf(r) < data.rows.length ? el("strong", {}, number(r.means[game])) : number(r.means[game]))));
  });
  return el("section", {},
    el("h2", { title: data.shared.join(", ") }, `${data.protocol}, fingerprint ${data.fingerprint}: ${many(data.runs, "run")} on ${many(data.games.length, "game")}`
      + (unequal ? ", UNEQUAL FRAMES" : "")
      + (data.repeats ? `, ${many(data.repeats, "repeat")} of a seed left out` : "")
      + (data.shared.length < data.games.length ? `, ranked over ${data.shared.length > 4 ? many(data.shared.length, "game") : data.shared.join(", ")}` : "")),
    el("div", { class: "card tablewrap" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { class: "left" }, "agent"), ...STATS.map((s) => el("th", {}, s)), el("th", { class: "few" }, "games"), el("th", { class: "few" }, "runs"))), el("tbody", {}, ...data.rows.map((r) => line(r, false)), ...data.published.map((r) => line(r, true))))),
    el("h2", {}, "Raw scores, mean over seeds"),
    el("div", { class: "card tablewrap" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { class: "left" }, "game"), ...rows.map((r) => el("th", { class: "agent" }, r.agent)))), el("tbody", {}, ...games))));
}
