// node run.mjs URL --modules DIR --browser PROGRAM [--transports …] [--protocols …] [--only TEXT] [--without TEXT,TEXT] [--reference]
// The cases of the JavaScript client in a real browser, from three pages: one of another origin, one of the hub's own
// origin, and a sandboxed one whose origin is "null".

import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const [url, ...rest] = process.argv.slice(2);
const option = (name, fallback) => (rest.includes(name) ? rest[rest.indexOf(name) + 1] : fallback);
const list = (name, fallback) => option(name, fallback).split(',').filter((part) => part !== '');
const modules = join(resolve(option('--modules', '.')), 'node_modules');
const here = dirname(fileURLToPath(import.meta.url));
const { chromium } = createRequire(join(modules, 'from-here.js'))('playwright-core');

const FILES = {
  'page.html': join(here, 'page.html'),
  'cases.mjs': join(here, '..', 'js', 'cases.mjs'),
  'signalr.js': join(modules, '@microsoft', 'signalr', 'dist', 'browser', 'signalr.js'),
  'signalr-protocol-msgpack.js': join(modules, '@microsoft', 'signalr-protocol-msgpack', 'dist', 'browser', 'signalr-protocol-msgpack.js'),
};

async function content(path) {
  const name = path.split('/').pop();
  const body = FILES[name] && (await readFile(FILES[name]));
  const type = name.endsWith('.html') ? 'text/html' : 'text/javascript';
  // Modules are fetched with CORS, also by the page whose origin is "null".
  return body ? { status: 200, headers: { 'Content-Type': type, 'Access-Control-Allow-Origin': '*' }, body } : { status: 404, headers: {}, body: '' };
}

const pages = createServer(async (request, response) => {
  const path = new URL(request.url, 'http://page').pathname;
  const { status, headers, body } = await content(path);
  if (path.startsWith('/sandboxed/')) headers['Content-Security-Policy'] = 'sandbox allow-scripts';
  response.writeHead(status, headers).end(body);
});
await new Promise((listening) => pages.listen(0, '127.0.0.1', listening));
const elsewhere = `http://127.0.0.1:${pages.address().port}`;

const ORIGINS = [
  { name: 'other origin', page: `${elsewhere}/page.html`, origin: elsewhere },
  { name: 'same origin', page: `${url}/interop-page/page.html`, origin: url, intercepted: true },
  // One case a lane shows that this origin is let in.
  { name: 'null origin', page: `${elsewhere}/sandboxed/page.html`, origin: 'null', only: 'echo values' },
];

const options = {
  url,
  transports: list('--transports', 'WebSockets,ServerSentEvents,LongPolling'),
  protocols: list('--protocols', 'json,messagepack'),
  without: list('--without', ''),
  reference: rest.includes('--reference'),
};
const USES = { WebSockets: 'WebSocket', ServerSentEvents: 'EventSource', LongPolling: 'fetch' };
const tally = { passed: 0, failed: 0 };

// Its sandbox does not start for root, which CI is. A page that was only put in the server's mouth counts as one from the
// public network, which may not open a WebSocket to this machine unless those checks are off.
const args = ['--no-sandbox', '--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets'];
const browser = await chromium.launch({ executablePath: option('--browser', 'chromium'), args });

async function runFrom({ name, page: address, origin, intercepted, only }) {
  // A context of its own has its own connections.
  const context = await browser.newContext();
  const page = await context.newPage();
  const line = (text) => console.log(text.replace(/^(ok  |FAIL|cannot|left out) /, `$1 ${name} `));
  page.on('pageerror', (error) => line(`     page error: ${error.message}`));
  await page.exposeFunction('line', line);
  await page.exposeFunction('token', async (user, role) => (await fetch(`${url}/token?${new URLSearchParams({ user, role })}`)).text());
  if (intercepted) await page.route(`${url}/interop-page/*`, async (route) => route.fulfill(await content(new URL(route.request().url()).pathname)));
  await page.goto(address);
  const chosen = { ...options, only: option('--only', only) };
  const { passed, failed } = await page.evaluate((given) => window.run(given), chosen);
  tally.passed += passed;
  tally.failed += failed;
  const [used, from] = await page.evaluate(() => [window.used, window.origin]);
  const unused = options.transports.filter((transport) => used[USES[transport]] === 0);
  const right = unused.length === 0 && from === origin;
  tally[right ? 'passed' : 'failed'] += 1;
  console.log(`${right ? 'ok  ' : 'FAIL'} ${name} the page's own ${Object.entries(used).map(([what, times]) => `${what} ${times}`).join(', ')}, origin ${from}`);
  await context.close();
}

try {
  await Promise.all(ORIGINS.map(runFrom));
} finally {
  await browser.close();
}
console.log(`${tally.passed} passed, ${tally.failed} failed`);
process.exit(tally.failed || !tally.passed ? 1 : 0);
