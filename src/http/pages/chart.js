// The pictures: numbers over time, and positions on a map. Each is told of records as they arrive and drawn when a frame is due.

const SPAN_MS = 60_000;
const SERIES_MAX = 8;
const POINTS_MAX = 2_000;
const VEHICLES_MAX = 200;
const TRAIL_MAX = 90;

/** Colours, given out in order, the same for `/vehicles/1` and `/vehicles/1/speed`, and in all places. */
export class Palette {
  #given = new Map();

  variable(subject) {
    const thing = subject.split('/', 3).join('/');
    if (!this.#given.has(thing)) this.#given.set(thing, `--series-${(this.#given.size % SERIES_MAX) + 1}`);
    return this.#given.get(thing);
  }

  colour(subject) {
    return themeColour(this.variable(subject));
  }
}

let theme;
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => (theme = undefined));
const themeColours = new Map();
function themeColour(name) {
  if (theme === undefined) {
    theme = getComputedStyle(document.documentElement);
    themeColours.clear();
  }
  if (!themeColours.has(name)) themeColours.set(name, theme.getPropertyValue(name).trim());
  return themeColours.get(name);
}

/** A canvas that is as sharp as the screen; gives the context scaled to CSS pixels, cleared. */
function begin(canvas) {
  const scale = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext('2d');
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = `11px ${themeColour('--sans')}`;
  return { pen, width, height };
}

/** A step of 1, 2, 2.5 or 5 times a power of ten, at most `count` of them up to `span`. */
function niceStep(span, count) {
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough) ?? 10 * power;
}

/** Lines over the last minute. Times out of order are put where they belong: that is how a recovered gap fills. */
export class Chart {
  #canvas;
  #palette;
  #series = new Map();
  #outages = [];

  constructor(canvas, palette) {
    this.#canvas = canvas;
    this.#palette = palette;
  }

  add(subject, time, value) {
    let points = this.#series.get(subject);
    if (!points) {
      if (this.#series.size >= SERIES_MAX) return;
      this.#series.set(subject, (points = []));
    }
    let at = points.length;
    while (at > 0 && points[at - 1].time > time) at -= 1;
    points.splice(at, 0, { time, value });
    if (points.length > POINTS_MAX) points.shift();
  }

  remove(subject) {
    this.#series.delete(subject);
  }

  /** Marks the time without connection; `until` is undefined while it lasts. */
  outage(outage) {
    this.#outages.push(outage);
    if (this.#outages.length > 20) this.#outages.shift();
  }

  /** What the key under the chart says: subject, newest value. */
  keys() {
    return [...this.#series].map(([subject, points]) => ({ subject, value: points.at(-1)?.value }));
  }

  draw(now) {
    const { pen, width, height } = begin(this.#canvas);
    const [left, right, top, bottom] = [38, 10, 8, 20];
    const from = now - SPAN_MS;
    let [low, high] = [Infinity, -Infinity];
    for (const points of this.#series.values()) {
      // One point before the edge stays, so that the line comes in from the left.
      while (points.length > 1 && points[1].time < from) points.shift();
      for (const { value } of points) [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
    const empty = low > high;
    if (empty) [low, high] = [0, 100];
    if (low > 0 && low < high * 0.6) low = 0;
    if (high === low) high = low + 1;
    const step = niceStep(high - low, 5);
    low = Math.floor(low / step) * step;
    high = Math.ceil(high / step) * step;
    const x = (time) => left + ((time - from) / SPAN_MS) * (width - left - right);
    const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - top - bottom);

    pen.fillStyle = themeColour('--warn-soft');
    for (const { since, until = now } of this.#outages) {
      const [start, end] = [Math.max(x(since), left), Math.min(x(until), width - right)];
      if (end <= start) continue;
      pen.fillRect(start, top, end - start, height - top - bottom);
    }
    pen.strokeStyle = themeColour('--line-2');
    pen.fillStyle = themeColour('--ink-3');
    pen.lineWidth = 1;
    pen.textAlign = 'right';
    pen.textBaseline = 'middle';
    for (let value = low; value <= high + step / 2; value += step) {
      const at = Math.round(y(value)) + 0.5;
      line(pen, left, at, width - right, at);
      pen.fillText(Number(value.toPrecision(6)).toLocaleString('en'), left - 7, at);
    }
    pen.textBaseline = 'alphabetic';
    for (let ago = 0; ago <= SPAN_MS; ago += 15_000) {
      pen.textAlign = ago === 0 ? 'right' : ago === SPAN_MS ? 'left' : 'center';
      pen.fillText(ago === 0 ? 'now' : `−${ago / 1000} s`, x(now - ago), height - 5);
    }
    pen.textAlign = 'center';
    if (empty) {
      pen.fillText('Subjects whose values are numbers appear here.', (left + width - right) / 2, (top + height - bottom) / 2);
    }
    pen.fillStyle = themeColour('--warn');
    for (const { since, until = now } of this.#outages) {
      const [start, end] = [Math.max(x(since), left), Math.min(x(until), width - right)];
      if (end - start > 70) pen.fillText('no connection', (start + end) / 2, top + 13);
    }

    pen.save();
    pen.beginPath();
    pen.rect(left, 0, width - left - right, height);
    pen.clip();
    pen.lineWidth = 2;
    pen.lineJoin = 'round';
    for (const [subject, points] of this.#series) {
      pen.strokeStyle = this.#palette.colour(subject);
      pen.beginPath();
      for (const { time, value } of points) pen.lineTo(x(time), y(value));
      pen.stroke();
    }
    pen.restore();
    for (const [subject, points] of this.#series) {
      const last = points.at(-1);
      if (!last || last.time < from) continue;
      pen.fillStyle = this.#palette.colour(subject);
      pen.strokeStyle = themeColour('--card');
      pen.beginPath();
      pen.arc(Math.min(x(last.time), width - right), y(last.value), 4, 0, 7);
      pen.fill();
      pen.stroke();
    }
  }
}

/** Positions with their heading and the way they came. */
export class PositionMap {
  #canvas;
  #palette;
  #vehicles = new Map();
  #view;

  constructor(canvas, palette) {
    this.#canvas = canvas;
    this.#palette = palette;
  }

  get size() {
    return this.#vehicles.size;
  }

  add(subject, time, { lat, lon, heading, id }) {
    let vehicle = this.#vehicles.get(subject);
    if (!vehicle) {
      if (this.#vehicles.size >= VEHICLES_MAX) return;
      vehicle = { trail: [], lat, lon, heading };
      this.#vehicles.set(subject, vehicle);
    }
    let at = vehicle.trail.length;
    while (at > 0 && vehicle.trail[at - 1].time > time) at -= 1;
    vehicle.trail.splice(at, 0, { time, lat, lon });
    if (vehicle.trail.length > TRAIL_MAX) vehicle.trail.shift();
    vehicle.label = String(id ?? subject.split('/').at(-1));
    if (at === vehicle.trail.length - 1) vehicle.heading = heading;
  }

  remove(subject) {
    this.#vehicles.delete(subject);
  }

  draw() {
    const { pen, width, height } = begin(this.#canvas);
    pen.save();
    pen.beginPath();
    pen.roundRect(0, 0, width, height, 8);
    pen.fillStyle = themeColour('--code');
    pen.fill();
    pen.clip();
    const view = this.#follow();
    if (view) this.#drawVehicles(pen, width, height, view);
    pen.restore();
  }

  /** The part of the world to show: all positions with a margin; it grows at once and otherwise moves slowly. */
  #follow() {
    let [south, north, west, east] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const { trail } of this.#vehicles.values()) {
      for (const { lat, lon } of trail) {
        [south, north] = [Math.min(south, lat), Math.max(north, lat)];
        [west, east] = [Math.min(west, lon), Math.max(east, lon)];
      }
    }
    if (south > north) return (this.#view = undefined);
    const wanted = { lat: (south + north) / 2, lon: (west + east) / 2, high: Math.max(north - south, 0.002), wide: Math.max(east - west, 0.002) };
    this.#view ??= wanted;
    for (const name of Object.keys(wanted)) this.#view[name] += (wanted[name] - this.#view[name]) * 0.08;
    return this.#view;
  }

  #drawVehicles(pen, width, height, view) {
    const squeeze = Math.cos((view.lat * Math.PI) / 180);
    const scale = Math.min((width - 56) / (view.wide * squeeze), (height - 56) / view.high);
    const x = (lon) => width / 2 + (lon - view.lon) * squeeze * scale;
    const y = (lat) => height / 2 - (lat - view.lat) * scale;

    const step = niceStep(width / (squeeze * scale), 6);
    pen.strokeStyle = themeColour('--line');
    pen.lineWidth = 1;
    pen.globalAlpha = 0.6;
    for (let lon = Math.floor((view.lon - width / (2 * squeeze * scale)) / step) * step; x(lon) < width; lon += step) line(pen, x(lon), 0, x(lon), height);
    for (let lat = Math.floor((view.lat - height / (2 * scale)) / step) * step; y(lat) > 0; lat += step) line(pen, 0, y(lat), width, y(lat));
    pen.globalAlpha = 1;

    pen.lineCap = 'round';
    for (const [subject, vehicle] of this.#vehicles) {
      const { trail } = vehicle;
      const newest = trail.at(-1);
      // Between two records the arrow glides.
      vehicle.lat += (newest.lat - vehicle.lat) * 0.2;
      vehicle.lon += (newest.lon - vehicle.lon) * 0.2;
      pen.strokeStyle = this.#palette.colour(subject);
      pen.lineWidth = 2.5;
      for (let at = 1; at < trail.length; at += 1) {
        pen.globalAlpha = 0.08 + (0.6 * at) / trail.length;
        line(pen, x(trail[at - 1].lon), y(trail[at - 1].lat), x(trail[at].lon), y(trail[at].lat));
      }
    }
    pen.globalAlpha = 1;
    pen.textAlign = 'center';
    pen.textBaseline = 'middle';
    for (const [subject, vehicle] of this.#vehicles) {
      pen.save();
      pen.translate(x(vehicle.lon), y(vehicle.lat));
      pen.fillStyle = this.#palette.colour(subject);
      pen.strokeStyle = themeColour('--card');
      pen.lineWidth = 2;
      pen.save();
      if (Number.isFinite(vehicle.heading)) {
        pen.rotate((vehicle.heading * Math.PI) / 180);
        pen.beginPath();
        pen.moveTo(0, -15);
        pen.lineTo(6, -6);
        pen.lineTo(-6, -6);
        pen.closePath();
        pen.fill();
      }
      pen.beginPath();
      pen.arc(0, 0, 9, 0, 7);
      pen.stroke();
      pen.fill();
      pen.restore();
      pen.fillStyle = themeColour('--card');
      pen.font = `650 10px ${themeColour('--sans')}`;
      pen.fillText(vehicle.label.slice(0, 3), 0, 0.5);
      pen.restore();
    }

    const metres = niceStep(((width / 3) * 111_320) / scale, 1.6);
    const bar = (metres / 111_320) * scale;
    pen.strokeStyle = themeColour('--ink-3');
    pen.fillStyle = themeColour('--ink-3');
    pen.lineWidth = 1.5;
    line(pen, 12, height - 12, 12 + bar, height - 12);
    pen.textAlign = 'left';
    pen.textBaseline = 'alphabetic';
    pen.fillText(metres >= 1000 ? `${metres / 1000} km` : `${metres} m`, 12, height - 18);
  }
}

function line(pen, x1, y1, x2, y2) {
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
  pen.stroke();
}
