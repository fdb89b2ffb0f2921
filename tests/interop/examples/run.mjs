// node run.mjs FOLDER --modules DIR --browser-modules DIR --browser PROGRAM [--only TEXT]
// Starts each program of `examples/` from FOLDER, where cargo put them, and uses it as its first lines say: with the JavaScript
// client, with HTTP requests, and in a browser where it brings a page.

import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import assert from 'node:assert/strict';

const [folder, ...rest] = process.argv.slice(2);
const option = (name, fallback) => (rest.includes(name) ? rest[rest.indexOf(name) + 1] : fallback);
const packages = (name) => createRequire(join(resolve(option(name, '.')), 'node_modules', 'from-here.js'));
const signalr = packages('--modules')('@microsoft/signalr');
const { chromium } = packages('--browser-modules')('playwright-core');
const PATIENCE = 15_000;

const freePort = () =>
  new Promise((found) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => found(port));
    });
  });

/// Runs an example until `use` is done with it.
async function running(example, use) {
  const address = `127.0.0.1:${await freePort()}`;
  const program = spawn(join(folder, example), [address], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await new Promise((ready, failed) => {
      program.once('error', failed);
      program.once('exit', (code) => failed(new Error(`${example} ended with ${code}`)));
      program.stdout.once('data', ready);
    });
    program.removeAllListeners('exit');
    await use(`http://${address}`);
    assert.equal(program.exitCode, null, 'it is still running');
  } finally {
    program.kill();
  }
}

async function connect(url, options) {
  const connection = new signalr.HubConnectionBuilder().withUrl(url, options ?? {}).configureLogging(signalr.LogLevel.None).build();
  connection.heard = [];
  await connection.start();
  return connection;
}

/// Notes what a client method is called with.
const listen = (connection, method) => connection.on(method, (...args) => connection.heard.push([method, ...args]));

async function eventually(what, condition) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await new Promise((later) => setTimeout(later, 20))) {
    if (await condition()) return;
  }
  throw new Error(`waited in vain for ${what}`);
}

const items = (stream) =>
  new Promise((complete, error) => {
    const all = [];
    stream.subscribe({ next: (item) => all.push(item), complete: () => complete(all), error });
  });

const subject = (...values) => {
  const stream = new signalr.Subject();
  setTimeout(() => {
    values.forEach((value) => stream.next(value));
    stream.complete();
  });
  return stream;
};

async function browsing(use) {
  const browser = await chromium.launch({
    executablePath: option('--browser'),
    // Its sandbox does not start for root, which CI is; the rest keeps it from looking for its maker.
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const open = async (url) => {
    const page = await browser.newPage();
    page.errors = [];
    page.on('pageerror', (error) => page.errors.push(error.message));
    await page.goto(url);
    return page;
  };
  try {
    await use(open);
  } finally {
    await browser.close();
  }
}

const shows = (page, text) => eventually(`'${text}' on the page`, async () => (await page.innerText('#log')).includes(text));

const CASES = {
  'chat: two pages talk to each other': () =>
    running('chat', (url) =>
      browsing(async (open) => {
        const [ann, bob] = [await open(url), await open(url)];
        for (const [page, name] of [[ann, 'ann'], [bob, 'bob']]) {
          await page.fill('#name', name);
          await page.press('#name', 'Enter');
          await shows(page, 'you are in lobby');
        }
        await shows(ann, 'bob is here');
        await ann.fill('#text', 'hello from ann');
        await ann.press('#text', 'Enter');
        await shows(bob, 'ann: hello from ann');
        await bob.close();
        await shows(ann, 'bob');
        assert.deepEqual(ann.errors, []);
      }),
    ),

  'auth: what a page may do depends on its role': () =>
    running('auth', (url) =>
      browsing(async (open) => {
        const page = await open(url);
        const call = async (method, argument) => {
          await page.selectOption('#method', method);
          await page.fill('#argument', argument);
          await page.click('#call button');
        };
        await page.click('#sign-in button');
        await shows(page, 'connected');
        await call('whoAmI', '');
        await shows(page, 'ann (guest)');
        await call('enter', 'inbox-bob');
        await shows(page, 'that room is not for you');
        await call('announce', 'nobody hears this');
        await shows(page, "Failed to invoke 'announce' because user is unauthorized");
        await page.selectOption('#role', 'admin');
        await page.click('#sign-in button');
        await eventually('a second connection', async () => (await page.innerText('#log')).split('\n').filter((line) => line === 'connected').length === 2);
        await call('announce', 'hello all');
        await shows(page, 'ann: hello all');
        assert.deepEqual(page.errors, []);
        const stranger = await fetch(`${url}/hub/negotiate?negotiateVersion=1`, { method: 'POST' });
        assert.equal(stranger.status, 401);
      }),
    ),

  'streaming: down, up, and both ways': () =>
    running('streaming', async (url) => {
      const connection = await connect(`${url}/streams`);
      assert.deepEqual(await items(connection.stream('countdown', 1)), [1, 0]);
      await assert.rejects(items(connection.stream('countdown', 5000)), /that takes too long/);
      assert.equal(await connection.invoke('average', subject(1, 2, 6)), 3);
      assert.equal(await connection.invoke('average', subject()), null);
      assert.deepEqual(await items(connection.stream('shout', subject('hello', 'you'))), ['HELLO', 'YOU']);
      await connection.stop();
    }),

  'client_results: clients answer the server': () =>
    running('client_results', async (url) => {
      const [ann, bob] = [await connect(`${url}/game`), await connect(`${url}/game`)];
      bob.on('pick', (from, to) => from + to - 4);
      ann.on('confirm', (question) => question === 'Leave the game?');
      assert.deepEqual(await ann.invoke('enter'), []);
      assert.deepEqual(await bob.invoke('enter'), [ann.connectionId]);
      assert.equal(await ann.invoke('guess', bob.connectionId, 7), true);
      assert.equal(await ann.invoke('guess', bob.connectionId, 8), false);
      await assert.rejects(bob.invoke('guess', ann.connectionId, 7));
      assert.equal(await ann.invoke('leave'), true);
      assert.deepEqual(await ann.invoke('enter'), [bob.connectionId]);
      await Promise.all([ann.stop(), bob.stop()]);
    }),

  'outside: HTTP requests and a clock reach clients': () =>
    running('outside', async (url) => {
      const [ann, bob] = [await connect(`${url}/news`), await connect(`${url}/news`)];
      for (const client of [ann, bob]) ['news', 'tick'].forEach((method) => listen(client, method));
      const post = (path, body) => fetch(`${url}${path}`, { method: 'POST', body });
      await ann.invoke('read', 'sports');
      assert.equal(await (await fetch(`${url}/readers/sports`)).text(), ann.connectionId);
      assert.equal((await post('/announce', 'to all')).status, 200);
      assert.equal((await post('/announce/sports', 'to some')).status, 200);
      const news = (client) => client.heard.filter(([method]) => method === 'news').map(([, text]) => text);
      await eventually('the news', () => news(ann).length === 2 && news(bob).length === 1);
      assert.deepEqual([news(ann), news(bob)], [['to all', 'to some'], ['to all']]);
      await eventually('two ticks', () => bob.heard.filter(([method]) => method === 'tick').length >= 2);
      await Promise.all([ann.stop(), bob.stop()]);
    }),

  'extractor: parameters are checked before the function runs': () =>
    running('extractor', async (url) => {
      const headers = (name) => ({ headers: { Authorization: name } });
      const [ann, bob, nobody] = [await connect(`${url}/shop`, headers('ann')), await connect(`${url}/shop`, headers('bob')), await connect(`${url}/shop`)];
      for (const client of [ann, bob, nobody]) listen(client, 'greeting');
      assert.equal(await nobody.invoke('price', 'pear', 5), 20);
      await assert.rejects(nobody.invoke('price', 'pear', 0), /an amount is between 1 and 1000/);
      await assert.rejects(nobody.invoke('price', 'plum', 1), /there is no such product/);
      assert.equal(await nobody.invoke('hello'), 'hello, whoever you are');
      assert.equal(await ann.invoke('hello'), 'hello, Acme & Sons');
      await assert.rejects(nobody.invoke('greetColleagues'), /you belong to no tenant/);
      await ann.invoke('greetColleagues');
      await eventually('the greeting', () => bob.heard.length === 1);
      assert.deepEqual([bob.heard, nobody.heard], [[['greeting', 'ann', 'Acme & Sons']], []]);
      await Promise.all([ann.stop(), bob.stop(), nobody.stop()]);
    }),
};

let [passed, failed] = [0, 0];
for (const [name, run] of Object.entries(CASES).filter(([name]) => name.includes(option('--only', '')))) {
  try {
    await run();
    passed += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${error?.stack ?? error}`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed || !passed ? 1 : 0);
