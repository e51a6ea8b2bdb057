// Agents by score, apart for every fingerprint, with published columns beside them.

import { ask, el, frames, number, pressed, redraw } from "./base.js";
import { keep, store, wishes } from "./store.js";

const STATS = ["IQM", "median", "mean", "optimality gap"];

export class LeaderboardPage {
  constructor(host) { this.host = host; }
  async open() { await this.load(); }
  async load(asked = true) {
    wishes.board ??= [];
    const folders = [...new Set([...store.runs.values()].map((run) => run.folder))].sort();
    const suite = folders.length > 1 && folders.includes(wishes.suite) ? wishes.suite : null;  // chosen where there were others
    const query = new URLSearchParams([...wishes.board.map((name) => ["published", name]), ...(suite === null ? [] : [["suite", suite]])]);
    const boards = await ask(`/api/leaderboard?${query}`), shown = JSON.stringify([boards, folders]);
    if (this.closed || (!asked && shown === this.shown)) return;
    if (!asked && pressed()) { this.stale = true; return; }
    this.shown = shown;
    const add = el("select", { "data-key": "add", "aria-label": "published agent", onchange: () => { if (add.value) { wishes.board.push(add.value); add.blur(); this.load(); } } },
      el("option", { value: "", textContent: "add a published agent…" }), ...store.about.published.filter((name) => !wishes.board.includes(name)).map((name) => el("option", { value: name, textContent: name })));
    const chips = wishes.board.map((name) => el("button", { class: "chip on", "data-key": name, title: "remove", onclick: () => { wishes.board = wishes.board.filter((n) => n !== name); this.load(); } }, `${name} ✕`));
    const pick = el("select", { "data-key": "suite", onchange: () => { wishes.suite = pick.value === "all" ? null : pick.value.slice(1); keep(); pick.blur(); this.load(); } },
      el("option", { value: "all", textContent: "all" }), ...folders.map((name) => el("option", { value: `/${name}`, textContent: name || "none: the folder itself", selected: name === suite })));
    redraw(this.host, el("div", { class: "bar" }, el("h1", {}, "Leaderboard"), folders.length > 1 ? el("label", {}, "suite", pick) : null, add, ...chips),
      el("p", { class: "quiet" }, "Evaluations of each run's last weights, a board for every way of measuring; 0 is random play, 1 a human; a tick on each bar marks 0. Bars are 95 % stratified bootstrap intervals over seeds, or Student's t intervals of means of one game's runs. Agents are ranked over the games that most of them have played: where there are no human scores, by how probably one beats another. Scores under different fingerprints stand apart: they do not compare."),
      ...(boards.length ? boards.map(board) : [el("p", {}, "No run has been evaluated yet.")]));
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

const span = (interval, form) => el("span", { class: "interval" }, interval ? `[${interval.map(form).join(", ")}]` : "");

// Where the bars of a statistic begin and end.
export function ends(rows, s) {
  const found = rows.filter((r) => r[s]).flatMap((r) => r[s].interval ?? [r[s].value]);
  const low = Math.min(0, ...found), high = Math.max(0, ...found);
  return [low, high > low ? high : low + 1];
}

function track(value, interval, [low, high], published) {
  const made = el("span", { class: `track few${published ? " published" : ""}` });
  const place = (x) => `${Math.max(0, Math.min(100, (100 * (x - low)) / (high - low)))}%`;
  const part = (name, left) => { const mark = el(name); mark.style.left = left; made.append(mark); return mark; };
  part("s", place(0));
  if (interval) part("i", place(interval[0])).style.right = `calc(100% - ${place(interval[1])})`;
  part("b", place(value));
  return made;
}

// A line per agent, with what its board compares by.
function lineOf(data, row, published, ...cells) {
  const trained = row.frames ? `${[...new Set(row.frames.map(frames))].join(" to ")} frames` : "";
  const suites = data.folders.length > 1 && row.folders ? `in ${row.folders.map((name) => name || "the folder itself").join(", ")}` : "";
  const small = (text) => (text ? el("div", { class: "interval" }, text) : null);
  return el("tr", {},
    el("td", { class: "left wrap" }, row.agent, small(published ? `published: ${row.protocol}; ${row.source}` : suites)), ...cells,
    el("td", { class: "few" }, `${row.games.length}${row.games.length < data.games.length ? ` of ${data.games.length}` : ""}`),
    el("td", { class: "few", title: trained && `scored after ${trained}` }, row.runs ?? "", small(data.unequal ? trained : ""), small(row.unfinished ? `${row.unfinished} not finished` : "")));
}

function tableOf(words, lines) {
  const few = (word) => (["games", "runs"].includes(word) ? "few" : "agent");
  return el("div", { class: "card tablewrap" }, el("table", {}, el("thead", {}, el("tr", {}, ...words.map((word, i) => el("th", { class: i ? few(word) : "left" }, word)))), el("tbody", {}, ...lines)));
}

function aggregates(data) {
  const scales = Object.fromEntries(STATS.map((s) => [s, ends(data.rows, s)]));
  const cell = (row, s, published) => {
    if (!row[s]) return el("td", { class: "quiet", title: "published scores are means of runs, and this is not worked out from means" }, "");
    const { value, interval } = row[s];
    return el("td", {}, two(value), " ", span(interval, two), track(value, interval, scales[s], published));
  };
  const cells = (row, published) => (row.mean ? STATS.map((s) => cell(row, s, published)) : [el("td", { class: "left quiet", colSpan: STATS.length }, "has not played all of these games")]);
  const line = (row, published) => lineOf(data, row, published, ...cells(row, published));
  return tableOf(["agent", ...STATS.map((s) => (s === "optimality gap" ? `${s} ↓` : s)), "games", "runs"], [...data.rows.map((r) => line(r, false)), ...data.published.map((r) => line(r, true))]);
}

// Of a world without human scores: how probably the agent of a line scores more than that of a column.
function improvement(data) {
  const found = new Map(data.improvement.flatMap(({ x, y, probability: p, interval }) => [
    [`${x}\n${y}`, [p, interval]], [`${y}\n${x}`, [1 - p, interval && [1 - interval[1], 1 - interval[0]]]]]));
  const cell = (p) => (p ? el("td", {}, two(p[0]), " ", span(p[1], two)) : el("td", {}, ""));
  return tableOf(["agent", ...data.rows.map((r) => `beats ${r.agent}`), "games", "runs"],
    data.rows.map((row) => lineOf(data, row, false, ...data.rows.map((other) => cell(found.get(`${row.agent}\n${other.agent}`))))));
}

function raw(data) {
  const rows = [...data.rows, ...data.published];
  const cell = (row, game) => {
    const shown = number(row.means[game]);
    return el("td", {}, row.best?.includes(game) ? el("strong", {}, shown) : shown, " ", span(row.intervals?.[game], number));
  };
  return tableOf(["game", ...rows.map((r) => r.agent)], data.games.map((game) => el("tr", {}, el("td", { class: "left" }, game), ...rows.map((r) => cell(r, game)))));
}

function board(data) {
  const compared = !data.normalised && data.rows.length > 1;
  const varied = data.rows.some((row) => Object.values(row.intervals).some(Boolean));
  return el("section", {},
    el("h2", { title: data.shared.join(", ") }, `${data.protocol}, fingerprint ${data.fingerprint}: ${many(data.runs, "run")} on ${many(data.games.length, "game")}`
      + (data.unequal ? ", UNEQUAL FRAMES" : "")
      + (data.repeats ? `, ${many(data.repeats, "repeat")} of a seed left out` : "")
      + (data.shared.length < data.games.length ? `, ranked over ${data.shared.length > 4 ? many(data.shared.length, "game") : data.shared.join(", ")}` : "")),
    ...data.notes.map((note) => el("p", { class: "quiet note" }, note)),
    ...(data.normalised ? [aggregates(data)] : compared ? [el("h2", {}, "Probability of improvement, a run of a line's agent over one of a column's"), improvement(data)] : []),
    el("h2", {}, varied ? "Raw scores, mean over seeds and 95 % t interval; bold: the interval holds the best mean" : "Raw scores, a single seed each; bold: the best"), raw(data));
}
