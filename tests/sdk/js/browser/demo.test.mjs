// Chromium drives the welcome and the demo page of `corespan demo`.
// With CORESPAN_SCREENSHOT set it also takes the README's picture, docs/demo.png.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Centrifuge } from "centrifuge";
import { chromium } from "playwright-core";
import WebSocket from "ws";
import { connected } from "../support/client.mjs";
import { Demo } from "../support/demo.mjs";
import { Proxy } from "../support/proxy.mjs";
import { after, before, test } from "../support/test.mjs";

const flags = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const run = Math.random().toString(36).slice(2, 8);
const picture = fileURLToPath(new URL("../../../../docs/demo.png", import.meta.url));

let demo, browser, publisher;
let subjects = 0;
// A subject of the demo's topic that nobody else writes to.
const freshSubject = () => `/vehicles/browser-${run}/${++subjects}`;

before(async () => {
  demo = await Demo.start();
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: flags });
  publisher = new Centrifuge(demo.websocket, { websocket: WebSocket });
  await connected(publisher);
});

after(async () => {
  publisher?.disconnect();
  Proxy.closeAll();
  await browser?.close();
  await demo?.stop();
});

// A page in a context of its own; what it complains about and whom it talks to is kept.
async function open(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 1000 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const seen = { complaints: [], addresses: [] };
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && seen.complaints.push(message.text()));
  page.on("pageerror", (error) => seen.complaints.push(String(error)));
  page.on("request", (request) => seen.addresses.push(request.url()));
  page.on("websocket", (socket) => seen.addresses.push(socket.url()));
  await page.goto(url);
  return { page, context, seen };
}

const state = (page, wanted) => page.locator(`#state[data-state="${wanted}"]`).waitFor();
const number = async (page, id) => Number((await page.textContent(id)).replaceAll(",", ""));
const reaches = (page, id, least) =>
  page.waitForFunction(([id, least]) => Number(document.querySelector(id).textContent.replaceAll(",", "")) >= least, [id, least]);

// The values that the log shows of a subject, oldest first.
const logged = (page, subject) =>
  page.$$eval(
    "#log tr",
    (rows, subject) =>
      rows
        .filter((row) => row.querySelector(".subject")?.textContent === subject)
        .map((row) => row.querySelector(".value").textContent)
        .reverse(),
    subject,
  );
const logs = (page, subject, value) =>
  page.waitForFunction(
    ([subject, value]) =>
      [...document.querySelectorAll("#log tr")].some(
        (row) => row.querySelector(".subject")?.textContent === subject && row.querySelector(".value").textContent === value,
      ),
    [subject, value],
  );

async function subscribe(page, subjects, begin = "live") {
  await page.check(`input[name="begin"][value="${begin}"]`);
  await page.fill("#subjects", subjects.join(" "));
  await page.click("#subscribe button.main");
  for (const subject of subjects) await page.locator(`#subject-list li:has(.name[title="${subject}"]) .note:text("live")`).waitFor();
}

async function unsubscribeAll(page) {
  for (let left = await page.locator("#subject-list li").count(); left > 0; left -= 1) await page.locator("#subject-list li button").first().click();
}

async function publish(page, subject, value, kind = "json") {
  await page.fill("#publish-subject", subject);
  await page.fill("#publish-value", value);
  await page.selectOption("#publish-kind", kind);
  await page.click("#publish button.main");
  await page.locator("#publish-result[data-kind]:not([data-kind=''])").waitFor();
  return page.textContent("#publish-result");
}

test("welcome page loads whole, names this server, and leads to the demo", async () => {
  const { page, context, seen } = await open(new URL("/", demo.url).href);
  assert.match(await page.textContent("pre"), new RegExp(demo.websocket.replaceAll(".", "\\.")));
  const licence = await page.request.get(new URL("/assets/centrifuge.LICENSE", demo.url).href);
  assert.match(await licence.text(), /Permission is hereby granted, free of charge/);
  await page.click(".hero a");
  await state(page, "connected");
  assert.deepEqual(seen.complaints, []);
  await context.close();
});

test("demo page connects by itself and shows records live, without errors and without outside addresses", async () => {
  const { page, context, seen } = await open(demo.url);
  await state(page, "connected");
  const first = await number(page, "#figure-records");
  await reaches(page, "#figure-records", first + 50);
  await page.waitForFunction(() => /^\d+$/.test(document.getElementById("figure-median").textContent));
  await page.waitForFunction(() => document.querySelectorAll("#log tr[data-kind=record]").length >= 50);
  await page.waitForFunction(() => document.querySelectorAll("#chart-keys li").length >= 4);
  const painted = await page.$$eval("canvas", (canvases) =>
    canvases.map((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return new Set(new Uint32Array(data.buffer)).size;
    }),
  );
  assert.ok(painted.every((colours) => colours > 5), `the pictures show something: ${painted} colours`);
  const { host } = new URL(demo.url);
  assert.deepEqual(seen.addresses.filter((address) => new URL(address).host !== host), []);
  assert.deepEqual(seen.complaints, []);
  await context.close();
});

test("log stays bounded and can be paused, filtered and cleared", async () => {
  const { page, context } = await open(demo.url);
  await state(page, "connected");
  const subject = freshSubject();
  await subscribe(page, [subject]);
  await Promise.all(Array.from({ length: 600 }, (_, n) => publisher.publish(subject, n)));
  await reaches(page, "#figure-records", 600);
  assert.ok((await page.locator("#log tr").count()) <= 500);
  await page.fill("#filter", "/vehicles/2");
  await page.locator("#log tr:not([hidden])").first().waitFor();
  const shown = await page.$$eval("#log tr:not([hidden]) .subject", (cells) => cells.map((cell) => cell.textContent));
  assert.ok(shown.length > 0 && shown.every((subject) => subject.includes("/vehicles/2")), String(shown));
  await page.click("#pause");
  await page.click("#clear");
  await page.waitForFunction(() => document.getElementById("log-note").textContent.startsWith("paused"));
  assert.equal(await page.locator("#log tr").count(), 0);
  await page.click("#pause");
  await page.locator("#log tr:not([hidden])").first().waitFor();
  await context.close();
});

test("what is published comes back to the subscribers, as JSON and as text", async () => {
  const { page, context, seen } = await open(demo.url);
  await state(page, "connected");
  await unsubscribeAll(page);
  const [one, two] = [freshSubject(), freshSubject()];
  await subscribe(page, [one, two]);
  assert.match(await publish(page, one, '{"n": 1}'), /^Kafka has it, after [\d.]+ ms$/);
  await logs(page, one, '{"n":1}');
  assert.match(await publish(page, two, "hello there", "text"), /^Kafka has it/);
  await logs(page, two, '"hello there"');
  assert.match(await publish(page, one, "{n: 1}"), /^Not JSON/);
  await page.click(`[aria-label="Unsubscribe ${two}"]`);
  await page.waitForFunction(() => document.getElementById("figure-subjects").textContent === "1");
  assert.deepEqual(seen.complaints, []);
  await context.close();
});

test("subscription can begin with the last records", async () => {
  const subject = freshSubject();
  for (const n of [1, 2, 3, 4, 5]) await publisher.publish(subject, n);
  const { page, context } = await open(demo.url);
  await state(page, "connected");
  await unsubscribeAll(page);
  await page.check('input[name="begin"][value="history"]');
  await page.fill("#history", "3");
  await subscribe(page, [subject], "history");
  await logs(page, subject, "5");
  assert.deepEqual(await logged(page, subject), ["3", "4", "5"]);
  await context.close();
});

test("tombstone is shown as a removal", async () => {
  const subject = freshSubject();
  const { page, context } = await open(demo.url);
  await state(page, "connected");
  await unsubscribeAll(page);
  await subscribe(page, [subject]);
  // The SDK's publish cannot ask for a removal, the protocol can.
  const socket = new WebSocket(demo.websocket);
  await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
  socket.send(`{"id":1,"connect":{}}\n${JSON.stringify({ id: 2, publish: { channel: subject, removed: true } })}`);
  await page.locator('#log tr[data-kind="removed"]').waitFor();
  assert.match(await page.textContent('#log tr[data-kind="removed"]'), /corespan\.removed=true/);
  socket.close();
  await context.close();
});

test("refused subjects and publications say why", async () => {
  const { page, context } = await open(demo.url);
  await state(page, "connected");
  // The demo serves whatever topics there are: one that is not there may still come, so this error is temporary.
  await page.fill("#subjects", "/no-such-topic/1 no-slash");
  await page.click("#subscribe button.main");
  for (const [subject, code] of Object.entries({ "/no-such-topic/1": 100, "no-slash": 107 }))
    await page.locator(`#subject-list li:has(.name[title="${subject}"]) .note:text("code ${code}")`).waitFor();
  assert.match(await publish(page, "/no-such-topic/1", "1"), /code 10[02]/);
  assert.match(await publish(page, "no slash", "1"), /code 107/);
  assert.equal(await page.getAttribute("#state", "data-state"), "connected");
  await context.close();
});

test("cable pulled and put back: reconnecting is shown, then every record that was missed, once and in order", async () => {
  const proxy = await Proxy.start(demo.port);
  try {
    const { page, context } = await open(new URL("/demo", proxy.websocket.replace("ws:", "http:")).href);
    await state(page, "connected");
    await unsubscribeAll(page);
    const subject = freshSubject();
    await subscribe(page, [subject]);
    const count = async (from, to) => {
      for (let n = from; n <= to; n += 1) await publisher.publish(subject, n);
    };
    await count(1, 20);
    await logs(page, subject, "20");
    proxy.pull();
    await state(page, "reconnecting");
    await page.locator("#notice:text('No connection for')").waitFor();
    await count(21, 80);
    assert.equal((await logged(page, subject)).length, 20);
    proxy.plug();
    await state(page, "connected");
    await count(81, 90);
    await logs(page, subject, "90");
    const wanted = Array.from({ length: 90 }, (_, at) => String(at + 1));
    assert.deepEqual(await logged(page, subject), wanted);
    await page.locator("#notice[data-kind=good][data-recovered]").waitFor();
    assert.match(await page.textContent("#notice"), /^Connected again after [\d.]+ s: recovered (6\d|[78]\d|90) records of 1 subject, nothing lost$/);
    assert.ok((await number(page, "#figure-recovered")) >= 60);
    await context.close();
  } finally {
    proxy.close();
  }
});

test("network gone for the whole browser is noticed, and its return too", async () => {
  const { page, context } = await open(demo.url);
  await state(page, "connected");
  await reaches(page, "#figure-records", 20);
  await context.setOffline(true);
  await state(page, "reconnecting");
  await context.setOffline(false);
  await state(page, "connected");
  await page.locator("#notice[data-kind=good][data-recovered]").waitFor();
  await context.close();
});

test("button on the page pulls the cable, and the demo's feed is recovered", async () => {
  const { page, context } = await open(demo.url);
  await state(page, "connected");
  await reaches(page, "#figure-records", 100);
  await page.click("#cable");
  await state(page, "reconnecting");
  // The feed goes on: three seconds of it are missed.
  await page.waitForFunction(() => /for [3-9]\.\d s/.test(document.getElementById("notice").textContent));
  await page.click("#cable");
  await state(page, "connected");
  await page.locator("#notice[data-kind=good][data-recovered]").waitFor();
  assert.ok((await number(page, "#figure-recovered")) >= 12, await page.textContent("#notice"));
  if (process.env.CORESPAN_SCREENSHOT) {
    mkdirSync(fileURLToPath(new URL(".", `file://${picture}`)), { recursive: true });
    await reaches(page, "#figure-records", (await number(page, "#figure-records")) + 60);
    await page.screenshot({ path: picture });
  }
  await context.close();
});

test("page of a build without the client says which command adds it", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.route("**/demo", async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, body: (await answer.text()).replace(/<script src="\/assets\/centrifuge\.js"[^>]*><\/script>/, "") });
  });
  await page.goto(demo.url);
  await page.locator("#notice code:text('./dev setup')").waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});

test("pages fit a narrow screen, light and dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    for (const path of ["/", "/demo"]) {
      const { page, context } = await open(new URL(path, demo.url).href, { viewport: { width: 360, height: 740 }, colorScheme });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= 360, `${path} is ${wide} px wide`);
      await context.close();
    }
  }
});
