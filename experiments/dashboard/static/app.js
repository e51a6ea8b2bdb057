// Pages by address, one clock for what is new, and the keys.

import { dark, el, pressed, recalled, remember, show } from "./base.js";
import { ComparePage } from "./compare.js";
import { LeaderboardPage } from "./leaderboard.js";
import { Overview } from "./overview.js";
import { RunPage } from "./run.js";
import { aboutIsOld, loadAbout, refreshRuns, store } from "./store.js";

const PERIOD = 1000;  // ms between looks for what is new
const host = document.getElementById("page"), pulse = document.getElementById("pulse");
let page = null, coming = null, turn = 0, again = false;

function theme(name) {
  document.documentElement.classList.toggle("dark", name === "dark");
}
theme(recalled("highscore-theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));

async function go() {
  if (!store.about) return;  // `begin` goes there as soon as it can
  again = false;
  const mine = ++turn, [, where = "", what = ""] = location.hash.split("/");
  page?.close();
  coming?.close();
  page = null;
  const next = where === "run" ? new RunPage(host, what) : where === "compare" ? new ComparePage(host, what.split(","))
    : where === "leaderboard" ? new LeaderboardPage(host) : new Overview(host);
  coming = next;
  for (const link of document.querySelectorAll("nav a")) link.classList.toggle("here", link.dataset.page === (where === "leaderboard" ? "leaderboard" : "runs"));
  try {
    await next.open();
    if (mine !== turn) return;
    page = next; coming = null;
    host.dataset.ready = where || "runs";
  } catch (error) {
    if (mine !== turn) return;
    again = error.status !== 404;  // what there is will be found at another try
    host.replaceChildren(el("h1", {}, "Not here"), el("p", {}, error.message), el("a", { href: "#/" }, "All runs"));
  }
}

let missed = false;  // what changed while nobody looked

async function tick() {
  try {
    const changed = await refreshRuns();
    missed ||= changed;
    if (missed && aboutIsOld()) await loadAbout();
    if (again) await go();
    if (page && !document.hidden && !pressed()) { await page.tick(missed); missed = false; }
    pulse.className = changed ? "on" : "";
    pulse.title = "new points arrive every second";
  } catch (error) {
    pulse.className = "lost";
    pulse.title = `no answer: ${error.message}`;
  }
  setTimeout(tick, PERIOD);
}

const KEYS = [["/", "filter"], ["j k", "down and up in the table"], ["Enter", "open the run"], ["x", "choose the run"], ["c", "compare the chosen"], ["l", "leaderboard"], ["r", "all runs"], ["t", "light or dark"], ["Esc", "back"]];
function help() {
  show(el("h2", {}, "Keys"), el("table", {}, ...KEYS.map(([key, words]) => el("tr", {}, el("td", { class: "left" }, ...key.split(" ").flatMap((k) => [el("kbd", {}, k), " "])), el("td", { class: "left" }, words)))));
}
function turnTheme() {
  const name = dark() ? "light" : "dark";
  remember("highscore-theme", name);
  theme(name);
  go();
}
document.getElementById("theme").addEventListener("click", turnTheme);
document.getElementById("help").addEventListener("click", help);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("dialog").open) return;
  if (["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "checkbox") { if (event.key === "Escape") event.target.blur(); return; }
  if (event.key === "Enter" && ["A", "BUTTON"].includes(event.target.tagName)) return;
  const done = page?.key(event.key) || ({ l: () => { location.hash = "#/leaderboard"; }, r: () => { location.hash = "#/"; }, t: turnTheme, "?": help }[event.key]?.(), ["l", "r", "t", "?"].includes(event.key));
  if (done) event.preventDefault();
});
addEventListener("hashchange", go);

async function begin() {
  try {
    await Promise.all([loadAbout(), refreshRuns()]);
  } catch (error) {
    pulse.className = "lost";
    host.replaceChildren(el("p", {}, `No answer: ${error.message}`), el("p", { class: "quiet" }, "Asking again…"));
    setTimeout(begin, PERIOD);
    return;
  }
  await go();
  setTimeout(tick, PERIOD);
}
await begin();
