// What every page uses: elements, numbers, requests, colours.

export function el(name, more = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(more)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));  // text stays text
  return made;
}

export async function ask(path, more) {
  const answer = await fetch(path, more);
  const data = await answer.json().catch(() => ({}));
  const { ok, status } = answer;
  if (!ok) throw Object.assign(new Error(data.error || `the dashboard answers ${status}`), { status });
  return data;
}

// What this browser keeps from one visit to the next; a browser that keeps nothing throws at the very name.
export function recalled(key) { try { return localStorage.getItem(key); } catch { return null; } }
export function remember(key, value) { try { localStorage.setItem(key, value); } catch { /* the page works without */ } }

// Whether a pointer is down: what is under it must stay until the click, which a new element would not get.
let down = false, letGo = 0;
export const pressed = () => down;
addEventListener("pointerdown", () => { clearTimeout(letGo); down = true; }, true);
for (const name of ["pointerup", "pointercancel"]) {
  addEventListener(name, () => { letGo = setTimeout(() => { down = false; }, 50); }, true);  // a touch clicks a little later
}
addEventListener("pointermove", (event) => { if (!event.buttons) down = false; }, true);  // let go elsewhere

// Replaces what is in an element; what had the focus has it again, if there still is something with its data-key.
export function redraw(host, ...children) {
  const key = host.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  host.replaceChildren(...children);
  if (key !== undefined) host.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

export function number(x) {
  if (x === null || x === undefined) return "";
  const size = Math.abs(x);
  if (size >= 1e6) return `${(x / 1e6).toFixed(2)}M`;
  if (size >= 1e4) return `${(x / 1e3).toFixed(1)}k`;
  if (size >= 1000) return x.toLocaleString("en", { maximumFractionDigits: 0 });
  if (size >= 10) return x.toFixed(1);
  return size >= 0.01 || size === 0 ? x.toFixed(2) : x.toExponential(1);
}

export function frames(x) {
  if (x >= 1e6) return `${+(x / 1e6).toFixed(x >= 1e8 ? 0 : 2)}M`;
  return x >= 1e3 ? `${+(x / 1e3).toFixed(x >= 1e4 ? 0 : 1)}k` : `${Math.round(x)}`;
}

// Okabe & Ito (2008), told apart by the colour-blind; lighter ones on dark.
const LIGHT = ["#0072B2", "#D55E00", "#009E73", "#B8508F", "#B07800", "#2F8FC4", "#7A5195", "#8C6D31", "#4C566A", "#A3333D"];
const DARK = ["#4DA6FF", "#FF9248", "#3DD6A3", "#F08CC4", "#FFC247", "#7FD0FF", "#C09BE8", "#D4B25E", "#A8B3C7", "#FF8A8A"];
export const dark = () => document.documentElement.classList.contains("dark");
export const colour = (i) => (dark() ? DARK : LIGHT)[i % LIGHT.length];
export const lap = (i) => Math.floor(i / LIGHT.length);  // lines of a second lap are dashed
export function swatch(i) {
  const mark = el("span", { class: "swatch" });
  mark.style.background = lap(i) ? `repeating-linear-gradient(90deg, ${colour(i)} 0 ${10 / (1 + lap(i))}px, transparent 0 ${14 / (1 + lap(i))}px)` : colour(i);
  return mark;
}
export const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const dialog = document.getElementById("dialog");
let turn = 0;  // of what the dialog shows
export function show(...children) {
  clear();
  dialog.lastElementChild.replaceChildren(...children);
  if (!dialog.open) dialog.showModal();
  return ++turn;
}
function clear() {
  for (const film of dialog.querySelectorAll("video")) {  // only removed, it keeps one of the host's six connections
    film.pause();
    film.removeAttribute("src");
    film.load();
  }
  dialog.lastElementChild.replaceChildren();
}
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("close", () => dialog.open || clear());  // it comes late: something else may be shown by now

// The episode that was recorded nearest to a point of a curve: of training, or of evaluations where they are its metric.
export async function play(id, at, name, metric) {
  const mine = show(el("h2", {}, name), el("p", { class: "quiet" }, el("span", { class: "wait" }), ` looking for the episode nearest to ${frames(at)} frames…`));
  const over = () => mine !== turn || !dialog.open;  // closed meanwhile, or shows something else
  try {
    const found = await ask(`/api/run/${id}/episode?${new URLSearchParams({ frames: Math.round(at), metric })}`);
    if (over()) return;
    const state = el("p", { class: "quiet" }, el("span", { class: "wait" }), " the emulator plays it again…");
    const film = el("video", { src: found.film, controls: true, autoplay: true, muted: true, loop: true });
    film.addEventListener("loadeddata", () => {
      const cut = film.duration >= found.seconds ? "the beginning of it; " : "";
      state.replaceChildren(cut, el("a", { href: `#/run/${id}` }, "all about this run"));
    });
    const live = el("button", { class: "main", onclick: () => watch(live, id, `?${new URLSearchParams({ episode: found.episode })}`) }, "Watch it live, as the newest weights see it");
    film.addEventListener("error", async () => {
      state.textContent = await ask(found.film).then(() => "this browser cannot play it", (error) => error.message);
    });
    show(
      el("h2", {}, name),
      el("p", {}, found.of ? `The evaluation at ${found.frames.toLocaleString("en")} frames: of ${found.of} episodes, with a mean of ${number(found.mean)}, ${found.score === null ? "the first" : `the one in the middle by its score, ${number(found.score)}`}`
        : `Episode ${found.episode} of the training, at ${found.frames.toLocaleString("en")} frames: score ${number(found.score)}`),
      film, state, live,
    );
  } catch (error) {
    if (!over()) show(el("h2", {}, name), el("p", {}, error.message));
  }
}

// A live page in a tab of its own, which a button opens: the newest agent plays, or an episode plays again.
export async function watch(button, id, query = "", path = "runs/NAME") {
  const said = button.textContent;
  button.disabled = true; button.textContent = "starting the game…";
  const tab = window.open("", "_blank");
  try {
    const { address } = await ask(`/api/run/${id}/watch${query}`, { method: "POST" });
    if (tab) tab.location = address; else location.href = address;
  } catch (error) {
    if (tab) tab.close();
    show(el("h2", {}, "Watch it play"), el("p", {}, error.message), el("p", {}, "In a terminal: ", el("code", { class: "command" }, `highscore watch ${path}`)));
  }
  button.disabled = false; button.textContent = said;
}
