// node run.mjs URL --modules DIR --browser PROGRAM --shots DIR --banner FILE [--transports …] [--only TEXT]
// The page of the development preset in a real browser: clicked, typed at, cut off, and looked at by program. It writes pictures for people
// into the folder of `--shots`; `--banner` is what the program has printed.

import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { casesOf } from './cases.mjs';

const [url, ...rest] = process.argv.slice(2);
const option = (name, fallback) => (rest.includes(name) ? rest[rest.indexOf(name) + 1] : fallback);
const list = (name, fallback) => option(name, fallback).split(',').filter((part) => part !== '');
const modules = join(resolve(option('--modules', '.')), 'node_modules');
const { chromium } = createRequire(join(modules, 'from-here.js'))('playwright-core');

// Its sandbox does not start for root, which CI is.
const browser = await chromium.launch({ executablePath: option('--browser', 'chromium'), args: ['--no-sandbox'] });
const DESKTOP = { width: 1200, height: 860 };
const PATIENCE = 20000;
const tally = { passed: 0, failed: 0 };

async function run(transport, name, body) {
  const seen = { requests: [], errors: [], expectsErrors: false };
  const contexts = [];
  const shots = resolve(option('--shots', '.'));
  const fresh = async (options) => watched(await browser.newContext({ viewport: DESKTOP, ...options }), contexts, seen);
  try {
    const bench = { context: await fresh(), fresh, leave, seen, url, transport, shots, banner: option('--banner') };
    await body(bench);
    const strange = seen.requests.filter((one) => new URL(one).hostname !== new URL(url).hostname);
    if (strange.length) throw new Error(`requests to elsewhere: ${strange.join(' ')}`);
    if (seen.errors.length && !seen.expectsErrors) throw new Error(`the console says: ${seen.errors.join('\n')}`);
    tally.passed += 1;
    console.log(`ok   ${transport} ${name}`);
  } catch (error) {
    tally.failed += 1;
    console.log(`FAIL ${transport} ${name}: ${error.stack}`);
    const pages = contexts.flatMap((context) => context.pages());
    await Promise.all(pages.map((page, at) => page.screenshot({ path: join(shots, `failed-${transport}-${at}.png`) }).catch(() => {})));
  } finally {
    await Promise.all(contexts.map(leave));
  }
}

function watched(context, contexts, seen) {
  contexts.push(context);
  context.setDefaultTimeout(PATIENCE);
  context.on('request', (request) => seen.requests.push(request.url()));
  context.on('weberror', (error) => seen.errors.push(String(error.error())));
  context.on('console', (message) => message.type() === 'error' && seen.errors.push(`${message.text()} ${message.location().url}`));
  context.on('page', (page) => page.on('websocket', (socket) => seen.requests.push(socket.url())));
  return context;
}

// As people leave: a browser that is ended says no goodbye, and the server keeps its connections for a while.
async function leave(context) {
  await Promise.all(context.pages().map((page) => page.goto('about:blank').catch(() => {})));
  await context.close();
}

for (const transport of list('--transports', 'WebSockets,ServerSentEvents,LongPolling')) {
  for (const [name, body] of Object.entries(casesOf(transport))) {
    if (name.includes(option('--only', ''))) await run(transport, name, body);
  }
}
await browser.close();
console.log(`${tally.passed} passed, ${tally.failed} failed`);
process.exit(tally.failed || !tally.passed ? 1 : 0);
