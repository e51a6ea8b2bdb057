// The page: messages in, one an agent step; what people want, out. See message.py for the format.

import * as draw from "./draw.js";

const $ = (id) => document.getElementById(id);
const MEMORY_SHOWN = 300; // agent steps of its memory's line
const FOLLOWS = 8; // agent steps that may be left out on the way
const SCALE_REMEMBERS = 20; // agent steps over which the bars keep one scale

let socket = null;
let now = null; // the header that is shown
let waiting = []; // decoded messages whose frames are yet to be shown
let showing = null; // the message whose frames are being shown, from frame `frame` on
let frame = 0, due = 0;
let track = { value: [], reward: [], doubt: [] };
let episode = -1, at = -1; // whose time line is shown, and the step of it
let ranges = [], memories = [];
let lost = false; // whether the show has ended meanwhile: another one may have other actions

const send = (wish, value) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ do: wish, value }));

// ---- messages ----

function connect() {
  socket = new WebSocket(`ws://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => lost ? location.reload() : look();
  let order = Promise.resolve(); // pictures are decoded side by side, shown in order
  socket.onmessage = (event) => {
    const message = unpack(event.data);
    order = order.then(() => message).then(receive).catch((error) => console.error(error));
  };
  socket.onclose = ({ reason }) => {
    lost = true;
    $("note").textContent = reason || "The show has ended; start highscore watch again.";
    if (!reason) setTimeout(connect, 1500); // else it could not even begin: that is to be read
  };
}

async function unpack(data) {
  const size = new DataView(data).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
  const pictures = {};
  let offset = 4 + size;
  await Promise.all(header.pictures.map(async ({ name, size: length }) => {
    const bytes = new Uint8Array(data, offset, length);
    offset += length;
    pictures[name] = name === "sound" ? bytes : await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  }));
  return { header, pictures };
}

function receive(message) {
  const { header } = message;
  if (header.episode !== episode) {
    episode = header.episode;
    track = { value: [], reward: [], doubt: [] };
    [ranges, memories, at] = [[], [], -1];
  }
  for (const name of Object.keys(track)) track[name].splice(header.track.from, Infinity, ...header.track[name]);
  if (header.still) {
    waiting = [];
    begin(message);
    frame = Math.max(...header.lanes.map((lane) => lane.frames));
    paint(frame - 1);
    panels(message);
  } else {
    waiting.push(message);
    if (waiting.length > 4) waiting.shift(); // too far behind: what is newest counts
    play(message);
  }
}

// ---- what is shown ----

function begin(message) {
  showing?.header.pictures.forEach(({ name }) => message !== showing && showing.pictures[name].close?.());
  [showing, frame] = [message, 0];
  now = message.header;
  if ($("lanes").children.length !== now.lanes.length) panels(message); // which makes their places
}

function paint(k) {
  now.lanes.forEach((lane, i) => {
    const canvas = $("lanes").children[i].querySelector(".game");
    draw.bitmap(canvas, showing.pictures[`screen${i}`], (lane.over ? lane.frames - 1 : Math.min(k, lane.frames - 1)) * lane.height, lane.height);
  });
}

function tick(time) {
  requestAnimationFrame(tick);
  if (!showing && !waiting.length) return;
  const last = showing ? Math.max(...now.lanes.map((lane) => lane.frames)) : 0;
  if (frame >= last) {
    if (!waiting.length) { due = Math.max(due, time); return; }
    begin(waiting.shift());
  } else if (time < due) return;
  const pace = 1000 / now.fps / now.speed / (waiting.length > 2 ? 1.5 : 1);
  const end = Math.max(...now.lanes.map((lane) => lane.frames));
  const stride = Math.min(Math.max(1, Math.ceil(now.speed * now.fps / 60)), end - frame); // a screen shows 60 of them a second
  paint(frame + stride - 1);
  frame += stride;
  if (frame >= end) panels(showing); // what the agent makes of the newest frame, when that is seen
  due = Math.max(due + stride * pace, time - stride * pace);
}

const named = (checkpoint) => (isNaN(checkpoint) ? checkpoint : Number(checkpoint).toLocaleString("en"));  // a folder may have a name of its own

function panels({ header, pictures }) {
  const first = header.lanes[0];
  document.title = `${header.game} · Highscore`;
  $("game").textContent = header.game;
  const fixed = header.kind === "episode" || header.kind === "progress"; // played once, by the agent of then
  const steps = isNaN(header.checkpoint) || !header.checkpoint ? header.checkpoint : `${named(header.checkpoint)} agent steps of training`;
  const trained = header.checkpoint === "best" ? "the weights that scored best" : steps;
  $("made").textContent = [header.preset, header.protocol, fixed ? "" : trained].filter(Boolean).join(", ");
  $("note").textContent = header.note || (header.kind === "duel" ? `you ${header.tally.you} : ${header.tally.agent} agent` : "");
  lanes(header, pictures);
  $("pause").textContent = header.paused ? "Play" : "Pause";
  const most = first.doubt_most ?? null; // of a gap there is none
  $("doubt-now").textContent = `${first.doubt_name} ${draw.digits(first.doubt)}${most === null ? "" : ` of ${draw.digits(most)}`}`;
  $("doubt-now").hidden = !first.doubt_name;
  $("value-now").textContent = `value ${draw.digits(first.value)}`;
  $("value-now").hidden = first.value === undefined;
  const clock = (k) => { const s = Math.floor((k * header.skip) / header.fps); return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`; };
  $("clock").textContent = `${clock(header.cursor)} of ${clock(header.length - 1)} · step ${header.cursor.toLocaleString("en")}`;
  draw.timeline($("timeline"), track, header.cursor, header.length, most);
  set("speed", header.speed); set("seed", header.seed); set("epsilon", header.epsilon);
  if ([...$("checkpoint").children].map((option) => option.value).join() !== header.checkpoints.join()) {
    $("checkpoint").replaceChildren(...header.checkpoints.map((name) => new Option(named(name), name)));
  }
  set("checkpoint", header.checkpoint);
  for (const id of ["seed", "epsilon", "duel"]) $(id).disabled = fixed;
  $("seed").closest("label").hidden = fixed;
  $("epsilon").closest("label").hidden = fixed || (first.policy && !first.values); // a policy is drawn from as it is
  $("settings").hidden = header.kind === "progress";
  $("hint").hidden = header.kind === "progress";
  $("invitation").textContent = header.kind === "duel" ? "Play" : "Take over";
  $("giving-back").hidden = header.kind === "duel";
  $("duel").textContent = header.kind === "duel" ? "Let it play alone" : "Play against it";
  document.querySelector("aside").hidden = first.value === undefined;
  document.querySelector("main").classList.toggle("alone", first.value === undefined);
  if (first.value !== undefined) agent(header, first, pictures);
}

function set(id, value) {
  const field = $(id);
  if (document.activeElement !== field && field.value !== String(value)) field.value = value;
}

function lanes(header, pictures) {
  const box = $("lanes");
  while (box.children.length > header.lanes.length) box.lastChild.remove();
  while (box.children.length < header.lanes.length) {
    const lane = document.createElement("div");
    lane.className = "lane";
    lane.innerHTML = `<div class="facts"><span class="who"></span><span class="score"></span><span class="earned"></span>
      <span class="share quiet"></span><span class="lives"></span></div>
      <div class="picture"><canvas class="game"></canvas><canvas class="glow"></canvas><div class="over" hidden>Game over</div></div>`;
    box.append(lane);
  }
  box.classList.toggle("one", header.lanes.length === 1);
  header.lanes.forEach((lane, i) => {
    const part = (name) => box.children[i].querySelector(`.${name}`);
    const yours = header.kind === "duel" ? lane.label === "you" : lane.taken;
    part("who").textContent = header.lanes.length > 1 ? lane.label : yours ? "you" : header.kind === "episode" ? lane.label + (lane.person ? ", taken over" : "") : "";
    part("who").classList.toggle("you", yours);
    part("score").textContent = draw.score(lane.score);
    if (lane.reward) {
      part("earned").textContent = (lane.reward > 0 ? "+" : "−") + Math.abs(lane.reward).toLocaleString("en");
      part("earned").classList.toggle("lost", lane.reward < 0);
      part("earned").dataset.at = header.cursor;
    } else if (!(header.cursor - part("earned").dataset.at < 12 && header.cursor > part("earned").dataset.at)) {
      part("earned").textContent = "";
    }
    part("share").textContent = lane.normalised === null ? "" : `${Math.round(100 * lane.normalised)} % of human`.replace("-", "−");
    part("lives").textContent = lane.lives ? "♥".repeat(Math.min(lane.lives, 9)) : "";
    part("lives").title = `${lane.lives} lives`;
    part("over").hidden = !lane.last;
    const glow = part("glow");
    glow.hidden = !(i === 0 && pictures.saliency);
    if (!glow.hidden) draw.bitmap(glow, pictures.saliency);
  });
}

function agent(header, first, pictures) {
  const shown = first.values ?? first.policy;
  $("wish").textContent = first.values ? "It expects" : "It wants";
  const unit = first.values ? `of each action, from here on, ${header.worth}` : "each action with this probability";
  const newest = header.checkpoint === header.checkpoints.at(-1);
  const best = header.checkpoint === "best";
  const eyes = newest ? "the newest weights see" : best ? "the best weights see" : `checkpoint ${named(header.checkpoint)} sees`;
  $("unit").textContent = unit + (header.kind === "episode" ? `, as ${eyes} it` : ""); // others may have played it
  if (header.cursor < at || header.cursor > at + FOLLOWS) [ranges, memories] = [[], []]; // somewhere else
  const fresh = header.cursor !== at; // not the same moment once more
  at = header.cursor;
  if (first.values && fresh) {
    ranges.push([Math.min(...shown), Math.max(...shown)]);
    if (ranges.length > SCALE_REMEMBERS) ranges.shift();
  }
  let [low, high] = first.values
    ? [Math.min(...ranges.map((r) => r[0])), Math.max(...ranges.map((r) => r[1]))] : [0, 1];
  if (first.values) low -= 0.12 * (high - low) || 0.5; // the least of them is still to be seen
  bars(header.actions, shown, low, high > low ? high : low + 1, first.action, header.lanes[0].taken ? first.played : null);
  [$("low").textContent, $("high").textContent] = [draw.digits(low), draw.digits(high)];
  $("plan").hidden = !first.plan?.length;
  if (first.plan?.length) $("plan").textContent = `plans ${first.plan.join(" → ")}`;

  $("spread-card").hidden = !header.spread;
  if (header.spread) {
    $("spread-action").textContent = `of ${header.actions[first.action]}, and thin of the others`;
    draw.spread($("spread"), header.spread.p, first.action);
    [$("spread-low").textContent, $("spread-high").textContent] = [draw.digits(header.spread.low), draw.digits(header.spread.high)];
  }
  $("memory-card").hidden = !first.memory;
  if (first.memory) {
    if (fresh) memories.push(first.memory);
    if (memories.length > MEMORY_SHOWN) memories.shift();
    $("memory").textContent = `norm ${draw.digits(first.memory[0])}, change ${draw.digits(first.memory[1])}`;
    draw.memory($("memory-line"), memories.map((m) => m[0]), memories.map((m) => m[1]));
  }
  draw.bitmap($("input"), pictures.input);
  const frames = header.stack;
  $("input").style.maxWidth = `${11 * Math.max(1, Math.round(pictures.input.width / pictures.input.height))}rem`;
  $("input-size").textContent = frames > 1 ? `${frames} frames, oldest to newest` : "";
  for (const button of document.querySelectorAll("[data-saliency]")) button.setAttribute("aria-pressed", button.dataset.saliency === header.saliency);
  $("features").setAttribute("aria-pressed", header.features);
  $("features").textContent = header.features ? "hide" : "show";
  $("maps").hidden = !pictures.features;
  if (pictures.features) draw.bitmap($("maps"), pictures.features);
}

function bars(names, values, low, high, chosen, played) {
  const box = $("bars");
  if (box.children.length !== names.length) {
    box.replaceChildren(...names.map((name, action) => {
      const bar = document.createElement("button");
      bar.className = "bar";
      bar.title = `Hold it${action < 10 ? `, or the key ${action},` : ""} to play it`;
      bar.innerHTML = '<span class="name"></span><span class="track"><span class="fill"></span></span><span class="number"></span>';
      bar.querySelector(".name").textContent = name;
      bar.addEventListener("pointerdown", (event) => { event.preventDefault(); hold(String(action), true); });
      bar.addEventListener("keydown", (event) => { if (event.key === "Enter") hold(String(action), true); });
      bar.addEventListener("keyup", (event) => { if (event.key === "Enter") hold(String(action), false); });
      for (const end of ["pointerup", "pointerleave", "pointercancel", "blur"]) {
        bar.addEventListener(end, () => hold(String(action), false));
      }
      return bar;
    }));
    for (const fill of box.querySelectorAll(".fill")) fill.style.display = "block";
  }
  values.forEach((value, action) => {
    const bar = box.children[action];
    bar.dataset.value = value;
    bar.classList.toggle("chosen", action === chosen);
    bar.classList.toggle("yours", action === played);
    bar.querySelector(".number").textContent = draw.digits(value);
    bar.querySelector(".fill").style.setProperty("--width", `${Math.max(0, Math.min(1, (value - low) / (high - low))) * 100}%`);
  });
}

// ---- sound ----

let speaker = null, soundEnds = 0;

function play({ header, pictures }) {
  if (!speaker || header.speed !== 1 || !pictures.sound.length) return;
  const buffer = speaker.createBuffer(1, pictures.sound.length, 512 * header.fps);
  const samples = buffer.getChannelData(0);
  pictures.sound.forEach((sample, k) => { samples[k] = (sample - 128) / 128; });
  const source = speaker.createBufferSource();
  source.buffer = buffer;
  source.connect(speaker.destination);
  if (soundEnds < speaker.currentTime || soundEnds > speaker.currentTime + 0.5) soundEnds = speaker.currentTime + 0.08;
  source.start(soundEnds);
  soundEnds += buffer.duration;
}

// ---- what people want ----

const held = new Set();
const PLAYS = new Set(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", " ", "w", "a", "s", "d", ..."0123456789"]);

function hold(key, down) {
  if (held.has(key) === down) return;
  if (down) held.add(key); else held.delete(key);
  send("keys", [...held]);
}

const typing = (target) => target.matches?.("input, select");

addEventListener("keydown", (event) => {
  if (typing(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (PLAYS.has(key)) { event.preventDefault(); hold(key, true); }
  else if (key === "p" && !event.repeat) $("pause").click();
  else if (key === ".") $("step").click();
  else if (key === "b") $("back").click();
});
addEventListener("keyup", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (PLAYS.has(key) && !typing(event.target)) event.preventDefault(); // a space bar presses the button in focus, else
  hold(key, false);
});
addEventListener("blur", () => { held.clear(); send("keys", []); });
const look = () => send("away", document.hidden && !speaker); // nothing is played for pages that nobody sees or hears
document.addEventListener("visibilitychange", () => { if (document.hidden) { held.clear(); send("keys", []); } look(); });

$("pause").onclick = () => send("pause", !now?.paused);
$("step").onclick = () => send("step");
$("back").onclick = () => send("rewind", 5);
$("speed").onchange = (event) => { send("speed", Number(event.target.value)); event.target.blur(); };  // the arrow keys are the game's
for (const id of ["seed", "epsilon", "checkpoint"]) {
  $(id).onchange = (event) => { send(id, event.target.value); event.target.blur(); };
}
$("duel").onclick = () => { send("kind", now?.kind === "duel" ? "agent" : "duel"); $("duel").blur(); };
$("features").onclick = () => send("features", !now?.features);
for (const button of document.querySelectorAll("[data-saliency]")) button.onclick = () => send("saliency", button.dataset.saliency);
$("sound").onclick = () => {
  if (speaker) { speaker.close(); speaker = null; } else speaker = new AudioContext();
  $("sound").setAttribute("aria-pressed", Boolean(speaker));
};

function seek(event) {
  const { left, width } = $("timeline").getBoundingClientRect();
  send("seek", Math.round(Math.max(0, Math.min(1, (event.clientX - left) / width)) * (now.length - 1)));
}
$("timeline").onpointerdown = (event) => { if (now) { $("timeline").setPointerCapture(event.pointerId); seek(event); } };
$("timeline").onpointermove = (event) => { if (now && event.buttons) seek(event); };

connect();
requestAnimationFrame(tick);
