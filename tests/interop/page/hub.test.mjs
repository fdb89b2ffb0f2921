// The client of the page where a browser adds nothing: calls, and lines that break at the worst moments. See `hub.mjs`.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { Line } from './line.mjs';

const URL_OF_SERVER = process.env.HUBWIRE_URL;
const { HubConnection } = await import(process.env.HUBWIRE_CLIENT);
// The emulator's, which everybody knows.
const KEY = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH';
const PATIENCE = { timeout: 60000 };

// ---- what a test needs

// A connection that has noted its states; stopped at the end of the test.
async function connected(t, options = {}, url = URL_OF_SERVER) {
  const hub = new HubConnection(`${url}/hubs/chat`, options);
  hub.states = [];
  hub.onstate = (state) => hub.states.push(state);
  t.after(() => hub.stop());
  await hub.start();
  return hub;
}

async function lineTo(t) {
  const line = await Line.to(URL_OF_SERVER);
  t.after(() => line.close());
  return line;
}

async function until(isTrue, what) {
  const deadline = Date.now() + 20000;
  while (!isTrue()) {
    assert.ok(Date.now() < deadline, `${what} does not come to be`);
    await wait(10);
  }
}

const wait = (milliseconds) => new Promise((over) => setTimeout(over, milliseconds));

const range = (count) => Array.from({ length: count }, (_, at) => at);

// A group of its own for each test, and what comes to it.
let groups = 0;
async function listen(hub, group) {
  const heard = [];
  hub.on('note', (number) => heard.push(number));
  await hub.invoke('JoinGroup', group);
  return heard;
}
const freshGroup = () => `test-${process.pid}-${groups++}`;

const note = (hub, group, number) => hub.invoke('SendToGroup', group, 'note', [number]);

// REST calls, signed with the well-known key.
async function rest(method, path, body) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const unsigned = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ aud: `http://localhost${path.split('?')[0]}`, exp: Math.floor(Date.now() / 1000) + 600 })}`;
  const token = `${unsigned}.${createHmac('sha256', KEY).update(unsigned).digest('base64url')}`;
  const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };
  const separator = path.includes('?') ? '&' : '?';
  return fetch(`${URL_OF_SERVER}${path}${separator}api-version=2024-12-01`, { method, headers, body: body && JSON.stringify(body) });
}

// ---- calls

for (const transport of ['WebSockets', 'LongPolling']) {
  test(`calls over ${transport} have their results and errors`, PATIENCE, async (t) => {
    const hub = await connected(t, { transport });
    assert.equal(await hub.invoke('JoinGroup', freshGroup()), null);
    await assert.rejects(hub.invoke('Nothing'), /Method does not exist/);
    await assert.rejects(hub.invoke('JoinGroup'), /argument/);
    await assert.rejects(hub.invoke('Counter', 1, 1), /streaming/);
    const counted = [];
    for await (const number of hub.stream('Counter', 5, 1)) counted.push(number);
    assert.deepEqual(counted, [1, 2, 3, 4, 5]);
    await assert.rejects(async () => {
      for await (const number of hub.stream('Counter', 1e6, 1)) assert.fail(`${number}`);
    }, /counts to/);
  });

  test(`messages over ${transport} keep their order`, PATIENCE, async (t) => {
    const [hub, other] = [await connected(t, { transport }), await connected(t)];
    const group = freshGroup();
    const heard = await listen(other, group);
    for (const number of range(300)) hub.send('SendToGroup', group, 'note', [number]);
    await until(() => heard.length === 300, 'the last message');
    assert.deepEqual(heard, range(300));
  });

  test(`a stream over ${transport} can be left from elsewhere`, PATIENCE, async (t) => {
    const hub = await connected(t, { transport });
    const slow = hub.stream('Counter', 5, 60000);
    const next = slow.next();
    await slow.return();
    assert.deepEqual(await next, { value: undefined, done: true });
    // The server has let go of it too, or this connection's stop would show it.
    assert.equal(await hub.invoke('JoinGroup', freshGroup()), null);
  });

  test(`the server can ask over ${transport}`, PATIENCE, async (t) => {
    const hub = await connected(t, { transport });
    hub.on('Add', async (one, other) => one + other);
    hub.on('nothing', () => {});
    hub.on('fails', () => {
      throw new Error('not today');
    });
    const ask = async (target, ...args) => {
      const answer = await rest('POST', `/api/hubs/chat/connections/${hub.id}/:invoke`, { target, arguments: args });
      return [answer.status, await answer.json()];
    };
    assert.deepEqual(await ask('add', 1, 2).then(([status, { result }]) => [status, result]), [200, 3]);
    assert.deepEqual(await ask('nothing').then(([status, { result }]) => [status, result]), [200, null]);
    for (const [target, text] of [['fails', 'not today'], ['unheard', "Client didn't provide a result."]]) {
      const [status, body] = await ask(target);
      assert.ok(status >= 400 && JSON.stringify(body).includes(text), `${status} ${JSON.stringify(body)}`);
    }
  });

  test(`a connection over ${transport} that the server ends begins anew`, PATIENCE, async (t) => {
    const hub = await connected(t, { transport });
    const { id } = hub;
    const fails = assert.rejects(hub.stream('Counter', 5, 60000).next(), /closing time/);
    const answer = await rest('DELETE', `/api/hubs/chat/connections/${id}?reason=closing%20time`);
    assert.equal(answer.status, 200);
    await fails;
    await until(() => hub.state === 'on' && hub.id !== id, 'the new connection');
    assert.ok(!hub.states.includes('resuming'), hub.states.join());
  });
}

test('what cannot be reached is an error', PATIENCE, async (t) => {
  const line = await lineTo(t);
  line.close();
  await assert.rejects(connected(t, {}, line.url));
  await assert.rejects(connected(t, { transport: 'Pigeons' }), /does not offer Pigeons/);
});

// ---- lines that break

// The same connection all along, both ways, with every message once and in its order.
test('nothing is lost or doubled however often the line breaks', PATIENCE, async (t) => {
  const seed = Date.now() % 2 ** 31;
  t.diagnostic(`seed ${seed}`);
  const random = generator(seed);
  const line = await lineTo(t);
  const [near, far] = [await connected(t, { resumeDelays: [0, 20, 50, 100, 200, 500, 1000] }, line.url), await connected(t)];
  const [there, back] = [freshGroup(), freshGroup()];
  const [heardFar, heardNear] = [await listen(far, there), await listen(near, back)];
  const { id } = near;
  const answers = [];
  const speak = async () => {
    for (const number of range(400)) {
      answers.push(note(near, there, number), note(far, back, number));
      if (number % 4 === 0) await wait(random() * 20);
    }
  };
  const breaks = async () => {
    for (const at of range(15)) {
      // Every other one may break a line that is being mended.
      if (at % 2 === 0) await until(() => near.state === 'on', 'the connection');
      await wait(random() * 100);
      line.sever();
      await wait(random() * 20);
      line.restore();
    }
  };
  await Promise.all([speak(), breaks()]);
  assert.deepEqual(new Set(await Promise.all(answers)), new Set([null]), 'every call is answered');
  await until(() => heardFar.length >= 400 && heardNear.length >= 400, 'the last message');
  assert.deepEqual([heardFar, heardNear], [range(400), range(400)]);
  assert.equal(near.id, id);
  assert.ok(near.states.filter((state) => state === 'resuming').length >= 5 && !near.states.includes('reconnecting'), near.states.join());
});

test('a line that has gone quiet is left for another', PATIENCE, async (t) => {
  const line = await lineTo(t);
  // The requests of Node.js would share the line, as those of a browser do not.
  const platform = { WebSocket, fetch: (address, options) => fetch(address.replace(line.url, URL_OF_SERVER), options) };
  const [near, far] = [await connected(t, { serverTimeout: 500, platform }, line.url), await connected(t)];
  const [there, back] = [freshGroup(), freshGroup()];
  const [heardFar, heardNear] = [await listen(far, there), await listen(near, back)];
  for (const number of range(30)) {
    // Both ends still take the old line for whole.
    if (number === 10) line.stall();
    await Promise.all([note(far, back, number), near.send('SendToGroup', there, 'note', [number])]);
    await wait(30);
  }
  await until(() => heardFar.length >= 30 && heardNear.length >= 30, 'the last message');
  assert.deepEqual([heardFar, heardNear], [range(30), range(30)]);
  assert.ok(near.states.includes('resuming') && !near.states.includes('reconnecting'), near.states.join());
});

for (const transport of ['WebSockets', 'LongPolling']) {
  test(`calls over ${transport} outlast a cut`, PATIENCE, async (t) => {
    const [hub, other] = [await connected(t, { transport }), await connected(t)];
    const group = freshGroup();
    const heard = await listen(hub, group);
    const numbers = [];
    const counting = (async () => {
      for await (const number of hub.stream('Counter', 40, 10)) numbers.push(number);
    })();
    await until(() => numbers.length > 3, 'the counter');
    const early = note(hub, group, 'early');
    hub.cut();
    const [stood, before] = [numbers.length, heard.length];
    const late = note(hub, group, 'late');
    await note(other, group, 'meanwhile');
    await wait(200);
    assert.deepEqual([numbers.length, heard.length], [stood, before], 'nothing comes in a cut');
    hub.mend();
    assert.deepEqual([await early, await late, await counting], [null, null, undefined]);
    assert.deepEqual(numbers, range(40).map((at) => at + 1));
    assert.deepEqual([...heard].sort(), ['early', 'late', 'meanwhile']);
    assert.ok(!hub.states.includes('reconnecting'), hub.states.join());
  });
}

test('one that may not resume begins anew, and its calls fail', PATIENCE, async (t) => {
  const line = await lineTo(t);
  const hub = await connected(t, { resumeDelays: [], delays: [0, 50] }, line.url);
  const { id } = hub;
  const fails = assert.rejects(hub.stream('Counter', 5, 60000).next(), /lost/);
  line.sever();
  await fails;
  line.restore();
  await until(() => hub.state === 'on' && hub.id !== id, 'the new connection');
  assert.equal(await hub.invoke('JoinGroup', freshGroup()), null);
});

test('one that may not try again is over', PATIENCE, async (t) => {
  const line = await lineTo(t);
  const hub = await connected(t, { resumeDelays: [], delays: [] }, line.url);
  line.sever();
  await until(() => hub.state === 'off', 'the end');
  await assert.rejects(hub.invoke('JoinGroup', freshGroup()), /not connected/);
});

test('a sender waits while the server has not acknowledged enough', PATIENCE, async (t) => {
  const hub = await connected(t, { keepLimit: 200 });
  const group = freshGroup();
  await hub.send('SendToGroup', group, 'note', ['short']);
  let isSent = false;
  const sent = hub.send('SendToGroup', group, 'note', ['long'.repeat(100)]).then(() => (isSent = true));
  await hub.invoke('JoinGroup', group);
  assert.ok(!isSent, 'the call was answered, and not acknowledged yet');
  await sent;
  assert.ok(hub.replay.size <= 200);
});

// The same numbers for the same seed.
function generator(seed) {
  let state = seed || 1;
  return () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return state / 0x7fffffff;
  };
}
