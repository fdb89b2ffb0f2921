// What the page has to do, on each transport. A case gets a browser context of its own and waits for what it wants to see.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Line } from './line.mjs';
import { contrasts } from './contrast.mjs';

const MANY = 20;

export function casesOf(transport) {
  const everywhere = { chat, presence, counter, curl };
  const resumes = { 'cut and resumed': cutAndResumed };
  const specific = {
    WebSockets: { ...resumes, 'a broken line': brokenLine, keyboard, headers, 'small screen': smallScreen, colours, 'nothing moves': nothingMoves, 'the line of the program': printedCurl, 'the admin page': adminPage },
    ServerSentEvents: { 'cut and connected anew': cutAndAnew, 'a broken line': brokenLineAnew },
    LongPolling: { ...resumes, 'a broken line': brokenLineAnew, 'a choice': choice },
  };
  return { ...everywhere, ...specific[transport] };
}

// ---- what people do

async function open({ context, url, transport }, address = url) {
  const page = await context.newPage();
  await page.goto(`${address}/${transport === 'WebSockets' ? '' : `?transport=${transport}`}`);
  await until(page, '#status', new RegExp(`^Connected by`));
  await page.waitForFunction(() => document.querySelector('#people .you'));
  return page;
}

async function two(bench, address) {
  const [ann, bob] = [await open(bench, address), await open(bench)];
  await rename(ann, 'Ann');
  await rename(bob, 'Bob');
  await shows(ann, ['Ann(you)', 'Bob']);
  await shows(bob, ['Bob(you)', 'Ann']);
  return [ann, bob];
}

async function rename(page, name) {
  await page.fill('#name', name);
  await page.click('#rename button');
}

async function say(page, text) {
  await page.fill('#text', text);
  await page.click('#say button');
}

const said = (page) => page.locator('#log .message:not(.waiting)').evaluateAll((lines) => lines.map((line) => line.lastChild.textContent));

const hears = (page, text) => page.locator('#log .message:not(.waiting)', { hasText: text }).first().waitFor();

const until = (page, selector, pattern) => page.locator(selector).filter({ hasText: pattern }).waitFor();

async function shows(page, people) {
  const wanted = (names) => [...document.querySelectorAll('#people li')].map((line) => line.textContent).join() === names;
  await page.waitForFunction(wanted, people.join()).catch(async () => {
    assert.deepEqual(await page.locator('#people li').allTextContents(), people);
  });
  assert.equal(await page.textContent('#people-count'), String(people.length));
}

const number = async (page) => Number(await page.textContent('#number'));

const passes = (page, least) => page.waitForFunction((wanted) => Number(document.querySelector('#number').textContent) >= wanted, least);

// ---- cases

async function chat(bench) {
  const [ann, bob] = await two(bench);
  await say(ann, 'Is anybody here?');
  await hears(bob, 'Is anybody here?');
  await say(bob, '<b>I am</b> & more');
  for (const page of [ann, bob]) {
    await hears(page, '<b>I am</b> & more');
    assert.deepEqual(await said(page), ['Is anybody here?', '<b>I am</b> & more']);
  }
  assert.deepEqual(await bob.locator('#log .from').allTextContents(), ['Ann', 'you']);
}

async function presence(bench) {
  const [ann, bob] = await two(bench);
  const third = await open(bench);
  await rename(third, 'Cid');
  await shows(ann, ['Ann(you)', 'Bob', 'Cid']);
  await rename(bob, 'Zoe');
  await shows(ann, ['Ann(you)', 'Cid', 'Zoe']);
  await third.close({ runBeforeUnload: true });
  await shows(ann, ['Ann(you)', 'Zoe']);
  await bob.goto('about:blank');
  await shows(ann, ['Ann(you)']);
}

async function counter(bench) {
  const page = await open(bench);
  for (let round = 0; round < 2; round += 1) {
    await page.click('#count');
    await passes(page, 1);
    assert.equal(await page.textContent('#count'), 'Stop');
    await passes(page, 5);
    await page.click('#count');
    await until(page, '#counted', /^Stopped at \d+: every number has come, in order\.$/);
    assert.equal(await page.textContent('#counted').then((text) => Number(text.match(/\d+/)[0])), await number(page));
    assert.equal(await page.textContent('#count'), 'Start');
  }
}

// Whatever is said or counted while the line is cut comes afterwards, once and in order.
async function cutAndResumed(bench) {
  const [ann, bob] = await two(bench);
  await say(ann, 'before');
  await hears(ann, 'before');
  await ann.click('#count');
  await passes(ann, 3);
  await ann.click('#cut');
  await until(ann, '#status', /^Cut\./);
  const stood = await number(ann);
  const numbered = Array.from({ length: MANY }, (_, at) => `number ${at + 1} of ${MANY}`);
  for (const text of numbered) await say(bob, text);
  await hears(bob, numbered.at(-1));
  await say(ann, 'said while cut');
  await ann.locator('.message.waiting', { hasText: 'said while cut' }).waitFor();
  assert.deepEqual(await said(ann), ['before'], 'nothing comes while the line is cut');
  assert.equal(await number(ann), stood, 'nothing is counted while the line is cut');
  assert.ok(!(await said(bob)).includes('said while cut'), 'nothing leaves while the line is cut');
  await ann.screenshot({ path: join(bench.shots, `cut-${bench.transport}.png`) });
  await ann.click('#cut');
  await until(ann, '#status', /^Resumed: .* came late\.$/);
  await hears(bob, 'said while cut');
  await hears(ann, 'said while cut');
  assert.deepEqual(await said(ann), ['before', ...numbered, 'said while cut']);
  assert.deepEqual(await said(bob), ['before', ...numbered, 'said while cut']);
  assert.equal(await ann.locator('.message.waiting, .message.failed').count(), 0);
  await passes(ann, stood + 5);
  await ann.click('#count');
  await until(ann, '#counted', /every number has come, in order\.$/);
  await shows(ann, ['Ann(you)', 'Bob']);
}

// Server-sent events have no way back: the page says so, and goes on.
async function cutAndAnew(bench) {
  const [ann, bob] = await two(bench);
  await ann.click('#count');
  await passes(ann, 2);
  await ann.click('#cut');
  await until(ann, '#status', /cannot be resumed/);
  await until(ann, '#counted', /ended at \d+/);
  await shows(bob, ['Bob(you)']);
  await say(bob, 'into the void');
  await hears(bob, 'into the void');
  await say(ann, 'from the void');
  await ann.locator('.message.failed', { hasText: 'from the void' }).waitFor();
  await ann.click('#cut');
  await until(ann, '#status', /^A new connection, by server-sent events/);
  await shows(ann, ['Ann(you)', 'Bob']);
  await shows(bob, ['Bob(you)', 'Ann']);
  await say(bob, 'welcome back');
  await hears(ann, 'welcome back');
  assert.ok(!(await said(ann)).includes('into the void'));
}

// Not the page's own doing: the network breaks, with no goodbye, and mends by itself.
async function brokenLine(bench) {
  bench.seen.expectsErrors = true;
  const line = await Line.to(bench.url);
  try {
    const [ann, bob] = await two(bench, line.url);
    await ann.click('#count');
    await passes(ann, 3);
    line.sever();
    for (let at = 1; at <= 3; at += 1) await say(bob, `meanwhile ${at}`);
    await until(ann, '#pill', /resuming/);
    line.restore();
    await until(ann, '#status', /^Resumed/);
    await say(bob, 'afterwards');
    await hears(ann, 'afterwards');
    assert.deepEqual(await said(ann), ['meanwhile 1', 'meanwhile 2', 'meanwhile 3', 'afterwards']);
    await ann.click('#count');
    await until(ann, '#counted', /every number has come, in order\.$/);
  } finally {
    line.close();
  }
}

async function brokenLineAnew(bench) {
  bench.seen.expectsErrors = true;
  const line = await Line.to(bench.url);
  try {
    const [ann, bob] = await two(bench, line.url);
    line.sever();
    await until(ann, '#pill', /reconnecting/);
    line.restore();
    await until(ann, '#status', /^A new connection/);
    await shows(ann, ['Ann(you)', 'Bob']);
    await say(bob, 'afterwards');
    await hears(ann, 'afterwards');
  } finally {
    line.close();
  }
}

// The line that the page shows, run by a shell.
async function curl(bench) {
  const [ann, bob] = await two(bench);
  await bench.context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: bench.url });
  for (const text of ['hello', `it's "$HOME" \\ \`date\` – é 漢 %41 & <i>`]) {
    await say(ann, text);
    await hears(bob, text);
    await until(ann, '#curl', JSON.stringify(text).slice(1, -1).replaceAll("'", "'\\''"));
    await ann.bringToFront();
    await ann.click('#copy');
    await until(ann, '#copied', /^Copied\.$/);
    const command = await ann.evaluate(() => navigator.clipboard.readText());
    assert.equal(command, await ann.textContent('#curl'));
    const { stderr } = await promisify(execFile)('sh', ['-c', command.replace(/^curl /, 'curl --fail --no-progress-meter ')]);
    assert.equal(stderr, '');
    for (const page of [ann, bob]) {
      await page.locator('#log .message', { hasText: 'curl' }).filter({ hasText: text }).waitFor();
      assert.deepEqual((await said(page)).slice(-2), [text, text]);
    }
  }
}

// The line that the program prints when it starts, pasted.
async function printedCurl(bench) {
  const command = (await readFile(bench.banner, 'utf8')).split('\n').find((line) => line.trim().startsWith('curl '));
  const [ann, bob] = await two(bench);
  await promisify(execFile)('sh', ['-c', command.replace('curl ', 'curl --fail --no-progress-meter ')]);
  for (const page of [ann, bob]) await page.locator('#log .message', { hasText: 'curl' }).filter({ hasText: 'hello' }).waitFor();
}

// The other address that the program prints: who is connected, without a script.
async function adminPage(bench) {
  const [admin] = (await readFile(bench.banner, 'utf8')).match(/http:\/\/[\d.]+:\d+(?=\/metrics)/);
  const ann = await open(bench);
  for (const colorScheme of ['light', 'dark']) {
    const context = await bench.fresh({ viewport: { width: 360, height: 640 }, javaScriptEnabled: false, colorScheme });
    const page = await context.newPage();
    await page.goto(admin);
    await page.getByRole('row', { name: /^chat [1-9]/ }).waitFor();
    const last = await page.getByRole('columnheader').last().boundingBox();
    assert.ok(last.x + last.width < 360 - 16, `the table ends at ${last.x + last.width}`);
    await page.screenshot({ path: join(bench.shots, `admin-${colorScheme}.png`) });
    assert.equal((await context.request.get(`${admin}/overview.css`)).status(), 200);
    for (const link of ['/metrics', '/healthz', '/readyz']) {
      assert.equal(await page.getByRole('link', { name: link }).getAttribute('href'), link);
      assert.equal((await context.request.get(`${admin}${link}`)).status(), 200);
    }
  }
  await ann.close();
}

// Everything by Tab, Enter, Space and the arrows, with the focus in sight.
async function keyboard(bench) {
  const ann = await open(bench);
  const stops = [];
  for (let presses = 0; presses < 20; presses += 1) {
    await ann.keyboard.press('Tab');
    const [id, ring] = await ann.evaluate(() => {
      const { activeElement } = document;
      return [activeElement.id || activeElement.value || activeElement.textContent, getComputedStyle(activeElement).outlineStyle];
    });
    if (id.includes('\n')) break;
    stops.push(id);
    assert.notEqual(ring, 'none', `${id} shows that it has the focus`);
  }
  assert.deepEqual(stops, ['second', 'log', 'text', 'Send', 'name', 'Rename', 'count', 'WebSockets', 'cut', 'copy', 'curl']);

  await reach(ann, 'text');
  await ann.keyboard.type('typed');
  await ann.keyboard.press('Enter');
  await hears(ann, 'typed');
  assert.equal(await ann.evaluate(() => document.activeElement.id), 'text', 'the next message can be typed');
  await reach(ann, 'count');
  await ann.keyboard.press('Space');
  await passes(ann, 2);
  await reach(ann, 'cut');
  await ann.keyboard.press('Enter');
  await until(ann, '#status', /^Cut\./);
  await ann.keyboard.press('Enter');
  await until(ann, '#status', /^Resumed/);
  await reach(ann, 'WebSockets');
  await ann.keyboard.press('ArrowDown');
  await ann.keyboard.press('ArrowDown');
  await until(ann, '#status', /^Connected by long polling\.$/);
  await shows(ann, [await ann.textContent('#people li')]);
  assert.ok(ann.url().endsWith('?transport=LongPolling'));
}

async function reach(page, wanted) {
  for (let presses = 0; presses < 20; presses += 1) {
    if (await page.evaluate((id) => [document.activeElement.id, document.activeElement.value].includes(id), wanted)) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`${wanted} cannot be reached`);
}

// The choice of a transport is used, and kept over a reload.
async function choice(bench) {
  const page = await open(bench);
  for (const [label, words] of [['WebSocket', 'WebSocket'], ['Server-sent events', 'server-sent events'], ['Long polling', 'long polling']]) {
    await page.getByLabel(label).check();
    await until(page, '#status', new RegExp(`^Connected by ${words}\\.$`));
    await page.reload();
    await until(page, '#status', new RegExp(`^Connected by ${words}\\.$`));
    assert.ok(await page.getByLabel(label).isChecked());
    await say(page, `by ${words}`);
    await hears(page, `by ${words}`);
    await page.waitForFunction(() => document.querySelectorAll('#people li').length === 1);
  }
  const { pathname } = new URL('/hubs/chat', bench.url);
  const used = new Set(bench.seen.requests.filter((one) => new URL(one).pathname === pathname).map((one) => new URL(one).protocol));
  assert.deepEqual([...used].sort(), ['http:', 'ws:']);
}

async function headers({ context, url }) {
  for (const [path, type] of [['/', 'text/html; charset=utf-8'], ['/demo/page.css', 'text/css; charset=utf-8'], ['/demo/hub.js', 'text/javascript; charset=utf-8'], ['/demo/icon.svg', 'image/svg+xml']]) {
    const answer = await context.request.get(url + path);
    const { etag, 'content-type': found, 'content-security-policy': policy, 'x-content-type-options': sniff, 'cache-control': cache } = answer.headers();
    assert.deepEqual([answer.status(), found, sniff, cache], [200, type, 'nosniff', 'no-cache']);
    assert.match(policy, /^default-src 'self';/);
    assert.doesNotMatch(policy, /unsafe|\*/);
    const again = await context.request.get(url + path, { headers: { 'If-None-Match': `"other", W/${etag}` } });
    assert.deepEqual([again.status(), await again.text()], [304, '']);
    const changed = await context.request.get(url + path, { headers: { 'If-None-Match': '"other"' } });
    assert.equal(changed.status(), 200);
  }
  const facts = await context.request.get(`${url}/demo.json`);
  assert.deepEqual([facts.headers()['cache-control'], facts.headers()['access-control-allow-origin']], ['no-store', undefined]);
}

async function smallScreen(bench) {
  for (const colorScheme of ['light', 'dark']) {
    const context = await bench.fresh({ viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme });
    const [ann, bob] = await two({ ...bench, context });
    await say(ann, 'Good morning! Who is here?');
    await hears(bob, 'Good morning');
    await say(bob, `Me, with a word that does not fit: ${'w'.repeat(80)}`);
    await hears(ann, 'www');
    await ann.tap('#count');
    await passes(ann, 3);
    const [width, wide] = await ann.evaluate(() => {
      const tooWide = (element) => element.getBoundingClientRect().right > innerWidth + 0.5 && !element.closest('.visually-hidden');
      return [document.documentElement.scrollWidth, [...document.body.querySelectorAll('*')].filter(tooWide).map((element) => element.id || element.className)];
    });
    assert.deepEqual([width, wide], [360, []]);
    for (const control of await ann.locator('button, input:not([type=radio]), fieldset label, a').all()) {
      const { height } = await control.boundingBox();
      assert.ok(height >= 24, `${await control.textContent()} is ${height} px high`);
    }
    await ann.screenshot({ path: join(bench.shots, `phone-${colorScheme}.png`), fullPage: true });
    await bench.leave(context);
  }
}

async function colours(bench) {
  for (const colorScheme of ['light', 'dark']) {
    const context = await bench.fresh({ colorScheme });
    const [ann, bob] = await two({ ...bench, context });
    await ann.screenshot({ path: join(bench.shots, `empty-${colorScheme}.png`) });
    await ann.click('#count');
    await say(ann, 'Good morning! Who is here?');
    await hears(bob, 'Good morning');
    await ann.click('#cut');
    await say(bob, 'Me. Are you in a tunnel?');
    await say(ann, 'In a tunnel.');
    await hears(bob, 'tunnel');
    await ann.locator('.message.waiting').waitFor();
    await settled(ann);
    const pale = await ann.evaluate(contrasts);
    await ann.click('#cut');
    await until(ann, '#status', /^Resumed/);
    await settled(ann);
    await ann.screenshot({ path: join(bench.shots, `page-${colorScheme}.png`), fullPage: true });
    assert.deepEqual([...pale, ...(await ann.evaluate(contrasts))], [], 'text that is hard to read');
    await bench.leave(context);
  }
}

const settled = (page) => page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.finished)));

async function nothingMoves(bench) {
  const animations = async (reducedMotion) => {
    const context = await bench.fresh({ reducedMotion });
    const page = await open({ ...bench, context });
    await say(page, 'hello');
    await hears(page, 'hello');
    return page.locator('.message').first().evaluate((line) => getComputedStyle(line).animationName);
  };
  assert.deepEqual([await animations('reduce'), await animations('no-preference')], ['none', 'arrive']);
}
