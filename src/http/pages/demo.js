// The demo page: wires the connection, the forms, the figures, the pictures and the log together.

import { Chart, Palette, PositionMap } from '/assets/chart.js';
import { cable, newClient, timeAndTags } from '/assets/link.js';
import { Log } from '/assets/log.js';

const LATENCIES_MAX = 500;
const RATE_SPAN_MS = 2_000;
const VALUE_CHARACTERS_MAX = 2_000;
/** How long after the connection is back a record from before may still come in and count as recovered. */
const RECOVERY_MS_MAX = 15_000;
const DEMO_MODE = document.body.dataset.mode === 'demo';
const DEMO_SUBJECTS = [
  ...[1, 2, 3, 4, 5, 6, 7, 8].map((id) => [`/vehicles/${id}`, { history: 40 }]),
  ...[1, 2, 3, 4].map((id) => [`/vehicles/${id}/speed`, { history: 200 }]),
];

const $ = (id) => document.getElementById(id);
const palette = new Palette();
const chart = new Chart($('chart'), palette);
const map = new PositionMap($('map'), palette);
const log = new Log($('log'), $('log-note'));

let client;
/** Subject -> what the list shows of it, and its subscription. */
const entries = new Map();
/** The last loss of the connection: since when, until when, and what came of it. */
let outage;
let records = 0;
let recoveredTotal = 0;
const latencies = [];
/** How many records there were at the last few ticks, for the rate. */
const ticks = [];

// ---- The connection

$('url').value = new URLSearchParams(location.search).get('url') ?? `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/connection/websocket`;

$('connection').addEventListener('submit', (event) => {
  event.preventDefault();
  if (client && client.state !== 'disconnected') return client.disconnect();
  connect();
});

$('cable').addEventListener('click', () => {
  if (cable.pulled) cable.plug();
  else cable.pull();
  $('cable').setAttribute('aria-pressed', String(cable.pulled));
  $('cable').textContent = cable.pulled ? 'Put it back' : 'Pull the cable';
});

/** Connects to the address of the form. With another address or token than before, from scratch, but to the same subjects. */
function connect() {
  const [url, token] = [$('url').value.trim(), $('token').value.trim()];
  if (client && client.url === url && client.token === token) return client.connect();
  client?.sdk.disconnect();
  outage = undefined;
  let sdk;
  try {
    sdk = newClient(url, token);
  } catch (error) {
    return notice('bad', error.message);
  }
  client = {
    sdk,
    url,
    token,
    get state() {
      return sdk.state;
    },
    connect: () => sdk.connect(),
    disconnect: () => sdk.disconnect(),
  };
  let wasConnected = false;
  sdk.on('connecting', ({ code, reason }) => {
    if (wasConnected && !outage) {
      outage = { since: Date.now(), until: undefined, failures: 0, recovered: 0, lost: [], subjects: new Set() };
      chart.outage(outage);
      event('warn', `Connection lost (${reason}, code ${code}); reconnecting`);
    }
    showState();
  });
  sdk.on('connected', ({ client: id }) => {
    wasConnected = true;
    if (outage && outage.until === undefined) {
      outage.until = Date.now();
      settle(outage);
    } else {
      event('event', `Connected to ${url}${id ? ` as ${id}` : ''}`);
    }
    if (!outage) notice();
    showState();
  });
  sdk.on('disconnected', ({ code, reason }) => {
    wasConnected = false;
    if (outage) outage.until ??= Date.now();
    outage = undefined;
    if (code === 0) notice();
    else notice('bad', `The server ended the connection: ${reason} (code ${code})`);
    event(code === 0 ? 'event' : 'bad', `Disconnected: ${reason} (code ${code})`);
    showState();
  });
  sdk.on('error', ({ error }) => {
    if (sdk.state !== 'connecting') return;
    if (outage) outage.failures += 1;
    else notice('warn', `No connection to ${url} yet (${error.message}); trying again`);
  });
  for (const [subject, entry] of entries) follow(subject, entry);
  sdk.connect();
}

function showState() {
  const state = client?.state ?? 'disconnected';
  const shown = state === 'connecting' && outage ? 'reconnecting' : state;
  $('state').dataset.state = shown;
  $('state').textContent = shown === 'disconnected' ? 'not connected' : shown;
  $('connect').textContent = state === 'disconnected' ? 'Connect' : 'Disconnect';
  $('connect').classList.toggle('main', state === 'disconnected');
  $('cable').disabled = state === 'disconnected' && !cable.pulled;
}

function notice(kind, text) {
  const box = $('notice');
  box.hidden = !text;
  box.dataset.kind = kind ?? '';
  if (box.textContent !== (text ?? '')) box.textContent = text ?? '';
}

// ---- Recovery

/** Once the connection is back: counts what arrives late until it has been quiet for a second, then says what came of it. */
function settle(back) {
  const check = () => {
    if (outage !== back) return;
    const age = Date.now() - back.until;
    const waiting = [...entries.values()].some((entry) => entry.subscription?.state === 'subscribing');
    const quiet = Date.now() - (back.latest ?? back.until) > 1_000 && age > 1_000 && !waiting;
    const text = summary(back);
    if (!quiet && age < RECOVERY_MS_MAX) {
      notice('good', `${text} …`);
      return setTimeout(check, 100);
    }
    notice(back.lost.length > 0 ? 'bad' : 'good', text);
    event(back.lost.length > 0 ? 'bad' : 'good', text);
    $('notice').dataset.recovered = back.recovered;
    outage = undefined;
    setTimeout(() => $('notice').textContent === text && notice(), 12_000);
  };
  check();
}

function summary({ since, until, recovered, subjects, lost }) {
  const back = `Connected again after ${((until - since) / 1_000).toFixed(1)} s: recovered ${plural(recovered, 'record')} of ${plural(subjects.size, 'subject')}`;
  if (lost.length === 0) return `${back}, nothing lost`;
  return `${back}; too much was missed of ${lost.slice(0, 3).join(', ')}${lost.length > 3 ? ' and others' : ''}, which go on with the newest record`;
}

const plural = (count, word) => `${count.toLocaleString('en')} ${word}${count === 1 ? '' : 's'}`;

// ---- Subscriptions

for (const choice of document.getElementsByName('begin')) {
  choice.addEventListener('change', () => {
    $('history-field').hidden = choice.value !== 'history';
    $('since-fields').hidden = choice.value !== 'since';
  });
}

$('subscribe').addEventListener('submit', (submitted) => {
  submitted.preventDefault();
  const choice = document.querySelector('[name="begin"]:checked').value;
  const begin =
    { snapshot: { snapshot: true }, history: { history: $('history').valueAsNumber || 1 }, since: { since: { offset: $('since-offset').valueAsNumber || 0, epoch: $('since-epoch').value.trim() } } }[
      choice
    ] ?? {};
  const subjects = [...new Set($('subjects').value.split(/[\s,]+/).filter(Boolean))];
  const result = $('subscribe-result');
  const known = subjects.filter((subject) => entries.has(subject));
  result.hidden = known.length === 0;
  result.textContent = known.length > 0 ? `Subscribed already: ${known.join(' ')}` : '';
  for (const subject of subjects) subscribe(subject, begin);
  $('subjects').value = '';
  if (!client || client.state === 'disconnected') connect();
});

/** `begin` is one of {}, {snapshot: true}, {history: n}, {since: {offset, epoch}}. */
function subscribe(subject, begin) {
  if (entries.has(subject)) return;
  const entry = { begin, count: 0, element: document.createElement('li') };
  const part = (tag, name) => Object.assign(document.createElement(tag), { className: name });
  const [swatch, text, name, note, count, remove] = [part('span', 'swatch'), part('div', 'text'), part('div', 'name'), part('div', 'note'), part('span', 'count'), part('button', '')];
  swatch.style.background = `var(${palette.variable(subject)})`;
  name.textContent = name.title = subject;
  remove.type = 'button';
  remove.textContent = '×';
  remove.setAttribute('aria-label', `Unsubscribe ${subject}`);
  remove.addEventListener('click', () => unsubscribe(subject));
  text.append(name, note);
  entry.element.append(swatch, text, count, remove);
  entry.note = (kind, words) => {
    note.dataset.kind = kind;
    note.textContent = note.title = words;
  };
  entry.countElement = count;
  entry.note('', 'waits for the connection');
  entries.set(subject, entry);
  $('subject-list').hidden = false;
  $('subject-list').append(entry.element);
  if (client) follow(subject, entry);
}

/** Subscribes with the SDK. */
function follow(subject, entry) {
  const { since, ...data } = entry.begin;
  const subscription = client.sdk.newSubscription(subject, { since, data: Object.keys(data).length > 0 ? data : undefined });
  entry.subscription = subscription;
  subscription.on('subscribing', ({ code, reason }) => {
    entry.note('', code >= 2500 ? `asked to come back: ${reason} (code ${code})` : 'subscribing');
    if (code >= 2500) event('warn', `${subject}: ${reason} (code ${code}); subscribing again`);
  });
  subscription.on('subscribed', (context) => {
    // The records in the reply are handed over before this turn ends; all later ones are live, or late.
    const { wasRecovering, recovered } = context;
    entry.reply = wasRecovering && recovered ? 'recovered' : entry.begin.history && !wasRecovering ? 'history' : 'newest';
    queueMicrotask(() => (entry.reply = undefined));
    entry.recovered = 0;
    if (wasRecovering && outage) {
      if (recovered) outage.subjects.add(subject);
      else outage.lost.push(subject);
    }
    if (wasRecovering && !recovered) entry.note('bad', 'too old to recover: newest record, then live');
    else if (wasRecovering) entry.note('good', 'recovered');
    else entry.note('', context.recoverable ? 'live, recovers' : 'live only');
  });
  subscription.on('unsubscribed', ({ code, reason }) => {
    if (entries.get(subject) !== entry || code === 0) return;
    entry.note('bad', `${reason} (code ${code})`);
    $('subject-list').prepend(entry.element);
    event('bad', `${subject}: unsubscribed by the server: ${reason} (code ${code})`);
  });
  subscription.on('error', ({ error }) => {
    entry.note('bad', `${error.message} (code ${error.code})`);
    event('bad', `${subject}: ${error.message} (code ${error.code})`);
  });
  subscription.on('publication', (publication) => arrived(subject, entry, publication));
  subscription.subscribe();
}

function unsubscribe(subject) {
  const entry = entries.get(subject);
  entries.delete(subject);
  entry.element.remove();
  entry.subscription?.unsubscribe();
  if (entry.subscription) client?.sdk.removeSubscription(entry.subscription);
  $('subject-list').hidden = entries.size === 0;
  chart.remove(subject);
  map.remove(subject);
}

// ---- Records

function arrived(subject, entry, { data, offset, tags }) {
  const at = Date.now();
  const [time, ownTags] = timeAndTags(tags);
  const age = time === undefined ? undefined : at - time;
  records += 1;
  entry.count += 1;

  let badge = entry.reply;
  const late = outage?.until !== undefined && time !== undefined && time >= outage.since - 5_000 && time <= outage.until && outage.subjects.has(subject);
  if (badge === 'recovered' || (!badge && late)) {
    badge = 'recovered';
    recoveredTotal += 1;
    entry.recovered += 1;
    entry.note('good', `recovered ${plural(entry.recovered, 'record')}`);
    if (outage) {
      outage.recovered += 1;
      outage.latest = at;
    }
  }
  if (!badge && age !== undefined) {
    latencies.push(age);
    if (latencies.length > LATENCIES_MAX) latencies.shift();
  }
  const removed = ownTags?.['corespan.removed'] === 'true';
  const dropped = ownTags?.['corespan.dropped'];
  log.add({
    kind: removed ? 'removed' : 'record',
    at,
    subject,
    offset: offset === undefined ? undefined : String(offset),
    latency: age === undefined ? undefined : `${age.toLocaleString('en')} ms`,
    badge,
    value: () => (removed ? 'removed (tombstone)' : dropped ? `left out: ${dropped}` : written(data)),
    tags: ownTags && Object.entries(ownTags).map(([name, value]) => `${name}=${value}`).join(' '),
  });
  picture(subject, time ?? at, data);
}

function written(data) {
  const text = JSON.stringify(data) ?? '';
  return text.length > VALUE_CHARACTERS_MAX ? `${text.slice(0, VALUE_CHARACTERS_MAX)}… (${text.length.toLocaleString('en')} characters)` : text;
}

function picture(subject, time, data) {
  if (typeof data === 'number') return chart.add(subject, time, data);
  if (data === null || typeof data !== 'object') return;
  if (Number.isFinite(data.lat) && Number.isFinite(data.lon)) {
    map.add(subject, time, data);
    $('map-note').textContent = '';
  }
  // A vehicle's speed as part of its position counts unless it comes as a subject of its own.
  if (!DEMO_MODE && Number.isFinite(data.speed) && !entries.has(`${subject}/speed`)) chart.add(subject, time, data.speed);
}

function event(kind, value) {
  log.add({ kind, at: Date.now(), value });
}

// ---- Publishing

$('publish').addEventListener('submit', async (submitted) => {
  submitted.preventDefault();
  const result = $('publish-result');
  const say = (kind, text) => {
    result.dataset.kind = kind;
    result.textContent = text;
  };
  const subject = $('publish-subject').value.trim();
  let data = $('publish-value').value;
  if ($('publish-kind').value === 'json') {
    try {
      data = JSON.parse(data);
    } catch (error) {
      return say('bad', `Not JSON: ${error.message}`);
    }
  }
  if (!client || client.state === 'disconnected') return say('bad', 'Not connected');
  say('', 'sent, waits for Kafka …');
  const start = performance.now();
  try {
    await client.sdk.publish(subject, data);
    say('good', `Kafka has it, after ${(performance.now() - start).toFixed(1)} ms`);
  } catch (error) {
    say('bad', `${error.message} (code ${error.code})`);
  }
});

// ---- Drawing

$('pause').addEventListener('click', () => {
  const paused = $('pause').getAttribute('aria-pressed') !== 'true';
  $('pause').setAttribute('aria-pressed', String(paused));
  $('pause').textContent = paused ? 'Go on' : 'Pause';
  log.pause(paused);
});
$('clear').addEventListener('click', () => log.clear());
$('filter').addEventListener('input', () => log.filter($('filter').value));

/** What is drawn, how often (ms). Between these moments a frame costs nothing, so that drawing does not add to the latency it shows. */
const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
const drawings = [
  { every: 100, draw: (now) => log.draw(now) },
  { every: still ? 1_000 : 100, draw: () => chart.draw(Date.now()) },
  { every: still ? 1_000 : 50, draw: () => map.draw() },
  { every: 250, draw: () => figures() },
];
function frame(now) {
  requestAnimationFrame(frame);
  for (const drawing of drawings) {
    if (now < (drawing.next ?? 0)) continue;
    drawing.next = now + drawing.every - 8;
    drawing.draw(now);
  }
}

function figures() {
  const now = Date.now();
  ticks.push({ at: now, records });
  while (ticks.length > 2 && ticks[1].at <= now - RATE_SPAN_MS) ticks.shift();
  const rate = ((records - ticks[0].records) * 1_000) / Math.max(now - ticks[0].at, 1);
  const sorted = latencies.toSorted((a, b) => a - b);
  const share = (part) => (sorted.length > 0 ? sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))].toLocaleString('en') : '–');
  const show = (id, text) => $(id).textContent !== text && ($(id).textContent = text);
  show('figure-records', records.toLocaleString('en'));
  show('figure-rate', Math.round(rate).toLocaleString('en'));
  show('figure-median', share(0.5));
  show('figure-p99', share(0.99));
  show('figure-subjects', [...entries.values()].filter(({ subscription }) => subscription?.state === 'subscribed').length.toLocaleString('en'));
  show('figure-recovered', recoveredTotal.toLocaleString('en'));
  for (const { countElement, count } of entries.values()) {
    const text = count.toLocaleString('en');
    if (countElement.textContent !== text) countElement.textContent = text;
  }
  keys();
  if (outage && outage.until === undefined) {
    const tries = outage.failures > 0 ? `, ${plural(outage.failures, 'attempt')} failed so far` : '';
    notice('warn', `No connection for ${((now - outage.since) / 1_000).toFixed(1)} s${tries}. Reconnecting; what is missed will be recovered.`);
  }
}

function keys() {
  const list = $('chart-keys');
  const wanted = chart.keys();
  const endings = new Set(wanted.map(({ subject }) => subject.split('/').at(-1)));
  const common = wanted.length > 0 && endings.size === 1 ? [...endings][0] : undefined;
  $('chart-name').textContent = common ? common[0].toUpperCase() + common.slice(1) : 'Numbers';
  while (list.children.length > wanted.length) list.lastElementChild.remove();
  wanted.forEach(({ subject, value }, at) => {
    const item = list.children[at] ?? list.appendChild(document.createElement('li'));
    item.style.setProperty('--swatch', `var(${palette.variable(subject)})`);
    const name = common && wanted.length > 1 ? subject.slice(0, -common.length - 1) : subject;
    const number = document.createElement('b');
    number.textContent = value === undefined ? '' : Number(value.toPrecision(4)).toLocaleString('en');
    item.replaceChildren(`${name} `, number);
  });
}

// ---- Start

requestAnimationFrame(frame);
showState();
if (typeof Centrifuge === 'undefined') {
  notice('bad', 'This server was built without the browser client. In its source tree run ');
  $('notice').append(Object.assign(document.createElement('code'), { textContent: './dev setup' }), ', then build it again.');
  for (const button of document.querySelectorAll('form button')) button.disabled = true;
} else if (DEMO_MODE) {
  for (const [subject, begin] of DEMO_SUBJECTS) subscribe(subject, begin);
  connect();
}
