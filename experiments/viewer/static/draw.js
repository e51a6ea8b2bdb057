// Numbers as pictures. Nothing here keeps anything between two calls but what it was given.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Three significant digits, as people write them. */
export function digits(x) {
  if (x === null || x === undefined) return "";
  const size = Math.abs(x);
  if (size >= 1000) return Math.round(x).toLocaleString("en");
  if (size && size < 0.0005) return x.toExponential(1).replaceAll("-", "−");
  return x.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3).replace("-", "−");
}

/** A score: whole numbers as such, others with up to three significant digits; never -0. As score.py has it. */
export function score(x) {
  const decimals = x ? Math.min(Math.max(2 - Math.floor(Math.log10(Math.abs(x))), 0), 4) : 0;
  return (Number(x.toFixed(decimals)) + 0).toLocaleString("en", { maximumFractionDigits: decimals });
}

/** A canvas's context in CSS pixels, sharp on every display, and its size. */
function surface(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** A line through values at x(i); gaps where there are none. */
function line(context, values, x, y, colour, width = 1.6) {
  context.beginPath();
  let drawing = false;
  values.forEach((value, i) => {
    if (value === null) drawing = false;
    else if (drawing) context.lineTo(x(i), y(value));
    else { context.moveTo(x(i), y(value)); drawing = true; }
  });
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.stroke();
}

/** Lowest and highest of what there is, apart even where all are equal. */
function span(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low > high) return [0, 1];
  return high - low < 1e-9 ? [low - 0.5, high + 0.5] : [low, high];
}

/** At most two points a pixel: the lowest and the highest of each column stay. */
function thin(values, columns) {
  if (values.length <= 2 * columns) return values.map((value, i) => [i, value]);
  const kept = [];
  for (let c = 0; c < columns; c++) {
    const [begin, end] = [Math.floor((c * values.length) / columns), Math.floor(((c + 1) * values.length) / columns)];
    let [low, high] = [begin, begin];
    for (let i = begin; i < end; i++) {
      if (values[i] === null) continue;
      if (values[low] === null || values[i] < values[low]) low = i;
      if (values[high] === null || values[i] > values[high]) high = i;
    }
    for (const i of low < high ? [low, high] : [high, low]) kept.push([i, values[i]]);
  }
  return kept;
}

/** The episode: value above, rewards as ticks, doubt below, from 0 to the most that it can be, and where we are. */
export function timeline(canvas, track, cursor, length, mostDoubt) {
  const { context, width, height } = surface(canvas);
  context.fillStyle = css("--track");
  context.fillRect(0, 0, width, height);
  const count = Math.max(length, 2);
  const x = (i) => 1 + (i / (count - 1)) * (width - 2);
  const part = (values, [low, high], top, bottom, colour) => {
    const points = thin(values, Math.floor(width));
    line(context, points.map((p) => p[1]), (k) => x(points[k][0]),
      (value) => bottom - ((value - low) / (high - low)) * (bottom - top), colour);
  };
  const middle = height * 0.72;
  const most = Math.max(...track.reward.map(Math.abs), 1e-9);
  track.reward.forEach((reward, i) => {
    if (!reward) return;
    const tall = 5 + 14 * Math.sqrt(Math.abs(reward) / most);
    context.fillStyle = css(reward > 0 ? "--reward" : "--loss");
    context.fillRect(x(i) - 0.75, middle - tall, 1.5, tall);
  });
  context.fillStyle = css("--ground");
  context.fillRect(0, middle + 4, width, height);
  part(track.doubt, [0, (mostDoubt ?? Math.max(...track.doubt)) || 1], middle + 6, height - 3, css("--doubt"));
  part(track.value, span(track.value), 5, middle - 6, css("--value"));
  context.fillStyle = css("--text");
  context.fillRect(x(Math.min(cursor, count - 1)) - 0.75, 0, 1.5, height);
}

/** Return distributions: all actions thin, the chosen one filled. */
export function spread(canvas, weights, chosen) {
  const { context, width, height } = surface(canvas);
  const most = Math.max(...weights.flat(), 1e-9);
  const bins = weights[0].length;
  const step = width / bins;
  context.fillStyle = css("--chosen");
  weights[chosen].forEach((p, k) => context.fillRect(k * step + 0.5, height - (p / most) * (height - 4), Math.max(step - 1, 1), (p / most) * (height - 4)));
  context.globalAlpha = 0.55;
  weights.forEach((p, action) => {
    if (action !== chosen) line(context, p, (k) => (k + 0.5) * step, (q) => height - 0.5 - (q / most) * (height - 4), css("--value"), 1);
  });
  context.globalAlpha = 1;
  context.fillStyle = css("--line");
  context.fillRect(0, height - 1, width, 1);
}

/** The norm of a memory and of its change, lately. */
export function memory(canvas, norms, changes) {
  const { context, width, height } = surface(canvas);
  const high = Math.max(...norms, ...changes, 1e-9);
  const x = (i) => (i / Math.max(norms.length - 1, 1)) * width;
  const y = (value) => height - 2 - (value / high) * (height - 4);
  line(context, norms, x, y, css("--value"));
  line(context, changes, x, y, css("--reward"));
}

/** A bitmap, pixel by pixel; `top` and `height` cut a part out of it. */
export function bitmap(canvas, image, top = 0, height = image.height) {
  if (canvas.width !== image.width || canvas.height !== height) [canvas.width, canvas.height] = [image.width, height];
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, top, image.width, height, 0, 0, image.width, height);
}
