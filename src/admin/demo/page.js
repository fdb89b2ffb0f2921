// The page of the development preset: what a client of a relay hub can do, in one look.

import { HubConnection } from './hub.js';

const GROUP = 'lobby';
const MESSAGE = 'message';
// Tells the others a name for a connection: id, name, and whether an answer is wanted.
const HELLO = 'hello';
const TRANSPORTS = { WebSockets: 'WebSocket', ServerSentEvents: 'server-sent events', LongPolling: 'long polling' };
// The server keeps a connection that is cut for 15 s.
const LONGEST_CUT = 12;
const COUNT_TO = 10000;
const COUNT_DELAY = 250;
const MOST_MESSAGES = 300;
const TICKS = 60;

const at = (id) => document.getElementById(id);
let demo = await facts();
const address = new URL(demo.hub, location).href;

let hub;
let name = ownName();
const names = new Map();
let present = new Map();
let spoken = 'hello';
let wasLost = false;
let cutTimer;
let missed = { messages: 0, numbers: 0 };

// ---- connection

async function connect(transport) {
  hub?.stop();
  const mine = new HubConnection(address, { transport });
  hub = mine;
  mine.on(MESSAGE, (from, text) => addMessage(String(from), String(text)));
  mine.on(HELLO, hello);
  mine.onstate = (state, about) => mine === hub && changed(state, about);
  try {
    await mine.start();
  } catch {
    // `changed` has told; a server that is being started again comes back.
    setTimeout(() => mine === hub && connect(transport), 2000);
  }
}

function changed(state, { error, resumed }) {
  const isOpen = state === 'on';
  at('pill').textContent = { on: 'connected', cut: 'the line is cut', off: 'not connected' }[state] ?? state;
  for (const element of [at('pill'), at('status')]) element.dataset.state = state;
  at('cut').disabled = !isOpen && state !== 'cut';
  at('cut').textContent = state === 'cut' ? 'Mend the line' : 'Cut the line';
  at('count').disabled = !isOpen && !numbers;
  clearInterval(cutTimer);
  if (state === 'cut') beginCut();
  else if (resumed) setTimeout(tellResumed, 300);
  else tell(said[state]?.(error) ?? '');
  if (isOpen && !resumed) enter();
  wasLost = state === 'reconnecting';
}

const said = {
  connecting: () => 'Connecting.',
  resuming: () => 'The line is lost. Resuming the connection.',
  reconnecting: (error) => `${sentence(error)} Making a new connection.`,
  off: (error) => sentence(error),
  on: () => (wasLost ? `A new connection, by ${transportName()}: what was sent meanwhile has not come.` : `Connected by ${transportName()}.`),
};

// A new connection is in no group, and has no name.
async function enter() {
  const mine = hub;
  try {
    await mine.invoke('JoinGroup', GROUP);
    await Promise.all([watchPresence(mine), mine.invoke('SendToGroup', GROUP, HELLO, [mine.id, name, true])]);
  } catch (error) {
    if (mine === hub && mine.state === 'on') tell(sentence(error));
  }
}

const transportName = () => TRANSPORTS[hub.options.transport];

const tell = (text) => (at('status').textContent = text);

// What the server says stands behind the name of its error.
const sentence = (error) => (error ? error.message.split('HubException: ').pop().replace(/^\w/, (first) => first.toUpperCase()).replace(/\.?$/, '.') : 'Not connected.');

// ---- cutting and resuming

function beginCut() {
  missed = { messages: 0, numbers: 0 };
  let left = LONGEST_CUT;
  const loses = hub.options.transport === 'ServerSentEvents';
  tell(loses ? 'Cut. Server-sent events cannot be resumed: what is sent meanwhile will be lost.' : 'Cut. The server keeps what is sent to this page, and the page what you send.');
  cutTimer = setInterval(() => {
    left -= 1;
    at('pill').textContent = `the line is cut, mends in ${left} s`;
    if (left <= 0) hub.mend();
  }, 1000);
}

function tellResumed() {
  if (hub.state !== 'on') return;
  const { messages, numbers } = missed;
  const came = [count(messages, 'message'), numbers && count(numbers, 'number')].filter(Boolean).join(' and ');
  tell(`Resumed: the same connection goes on, and nothing was lost. ${came} came late.`);
}

const count = (number, noun) => `${number || 'no'} ${noun}${number === 1 ? '' : 's'}`;

at('cut').addEventListener('click', () => (hub.state === 'cut' ? hub.mend() : hub.cut()));

// ---- messages

function addMessage(from, text) {
  const own = from === name;
  const line = messageLine(own ? 'you' : from, text);
  line.classList.toggle('own', own);
  if (hub.isCatchingUp) {
    missed.messages += 1;
    line.classList.add('late');
    line.querySelector('.from').append(mark(own ? 'sent late' : 'came late'));
  }
  append(line);
}

function messageLine(from, text) {
  const line = document.createElement('li');
  const who = document.createElement('span');
  line.className = 'message';
  who.className = 'from';
  who.textContent = from;
  line.append(who, text);
  return line;
}

function mark(text) {
  const late = document.createElement('span');
  late.className = 'late-mark';
  late.textContent = ` · ${text}`;
  return late;
}

function append(line) {
  const log = at('log');
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  log.append(line);
  while (log.children.length > MOST_MESSAGES) log.firstChild.remove();
  at('empty').hidden = true;
  if (follows) log.scrollTop = log.scrollHeight;
}

// Shows what has not reached the server yet; what has comes back like everybody's.
async function say(text) {
  const line = messageLine('you · waits', text);
  line.classList.add('own', 'waiting');
  const shown = setTimeout(() => append(line), 150);
  try {
    await hub.invoke('SendToGroup', GROUP, MESSAGE, [name, text]);
    line.remove();
  } catch (error) {
    line.classList.replace('waiting', 'failed');
    line.querySelector('.from').textContent = `you · not sent: ${sentence(error)}`;
    append(line);
  } finally {
    clearTimeout(shown);
  }
}

at('say').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = at('text').value.trim();
  if (text === '') return;
  at('text').value = '';
  spoken = text;
  showCurl();
  say(text);
});

// ---- who is here

// Keeps the list by the server's stream: who is here, then who comes and goes.
async function watchPresence(mine) {
  for await (const { type, members, member } of mine.stream('PresenceChanges', GROUP)) {
    if (mine !== hub) return;
    if (type === 'here') present = new Map(members.map((one) => [one.connectionId, one]));
    if (type === 'joined') present.set(member.connectionId, member);
    if (type === 'left') present.delete(member.connectionId);
    if (type === 'left') names.delete(member.connectionId);
    showPeople();
  }
}

function hello(id, other, wantsAnswer) {
  names.set(id, String(other).slice(0, 60));
  showPeople();
  if (wantsAnswer && id !== hub.id) hub.invoke('SendToConnection', id, HELLO, [hub.id, name, false]).catch(() => {});
}

function showPeople() {
  const named = ({ connectionId, userId }) => names.get(connectionId) ?? userId ?? `client ${connectionId.slice(0, 6)}`;
  const people = [...present.values()].map((member) => ({ id: member.connectionId, text: named(member) }));
  people.sort((one, other) => (other.id === hub.id) - (one.id === hub.id) || one.text.localeCompare(other.text));
  at('people').replaceChildren(...people.map(person));
  at('people-count').textContent = people.length;
}

function person({ id, text }) {
  const line = document.createElement('li');
  line.textContent = text;
  if (id === hub.id) {
    const you = document.createElement('span');
    you.className = 'you';
    you.textContent = '(you)';
    line.append(you);
  }
  return line;
}

// A name for this tab.
function ownName() {
  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  const made = `${pick(['Amber', 'Blue', 'Coral', 'Green', 'Ivory', 'Olive', 'Silver', 'Violet'])} ${pick(['Crane', 'Finch', 'Heron', 'Kestrel', 'Lark', 'Robin', 'Swift', 'Wren'])}`;
  return sessionStorage.getItem('name') ?? made;
}

at('rename').addEventListener('submit', (event) => {
  event.preventDefault();
  const chosen = at('name').value.trim();
  if (chosen === '') return;
  name = chosen;
  sessionStorage.setItem('name', name);
  hub.invoke('SendToGroup', GROUP, HELLO, [hub.id, name, false]).catch(() => {});
});

// ---- counter

let numbers = null;

async function runCounter() {
  numbers = hub.stream('Counter', COUNT_TO, COUNT_DELAY);
  at('count').textContent = 'Stop';
  at('counted').textContent = '';
  at('number').textContent = 0;
  at('ticks').replaceChildren();
  let last = 0;
  let isWhole = true;
  let how = 'Stopped';
  try {
    for await (const number of numbers) {
      isWhole &&= number === last + 1;
      last = number;
      showNumber(number);
    }
  } catch (error) {
    how = `${sentence(error)} The counter ended`;
  }
  numbers = null;
  at('count').textContent = 'Start';
  at('count').disabled = hub.state !== 'on';
  at('counted').textContent = `${how} at ${last}: ${isWhole ? 'every number has come, in order.' : 'numbers are missing.'}`;
}

function showNumber(number) {
  const tick = document.createElement('span');
  if (hub.isCatchingUp) {
    missed.numbers += 1;
    tick.className = 'late';
  }
  at('number').textContent = number;
  at('ticks').append(tick);
  while (at('ticks').children.length > TICKS) at('ticks').firstChild.remove();
}

at('count').addEventListener('click', () => (numbers ? numbers.return() : runCounter()));

// ---- the same as curl

// In single quotes, as every POSIX shell reads them.
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// A key of one's own is not for a page: then the token is made where the line is run.
function authorization() {
  if (demo.token) return `'Authorization: Bearer ${demo.token}'`;
  return `"Authorization: Bearer $(hubwire token --for rest --path ${demo.send.split('?')[0]})"`;
}

async function showCurl() {
  if (Date.now() > demo.until) demo = await facts();
  const body = JSON.stringify({ target: MESSAGE, arguments: ['curl', spoken] });
  at('curl-text').textContent = spoken;
  at('curl').textContent = [
    `curl -X POST ${quoted(new URL(demo.send, location).href)}`,
    `  -H 'Content-Type: application/json'`,
    `  -H ${authorization()}`,
    `  -d ${quoted(body)}`,
  ].join(' \\\n');
}

at('copy').addEventListener('click', async () => {
  at('copied').textContent = '';
  try {
    await navigator.clipboard.writeText(at('curl').textContent);
    at('copied').textContent = 'Copied.';
  } catch {
    // No leave to write there: the reader can.
    getSelection().selectAllChildren(at('curl'));
    at('copied').textContent = 'Selected: copy it now.';
  }
});

// ---- start

async function facts() {
  const answer = await (await fetch('/demo.json')).json();
  // A token is used for most of its time.
  return { ...answer, until: Date.now() + answer.lifetime * 900 };
}

function transportFromAddress() {
  const wanted = new URLSearchParams(location.search).get('transport');
  return wanted in TRANSPORTS ? wanted : 'WebSockets';
}

const choice = (transport) => at('transports').querySelector(`[value="${transport}"]`);

at('transports').addEventListener('change', ({ target }) => {
  history.replaceState(null, '', target.value === 'WebSockets' ? '/' : `/?transport=${target.value}`);
  connect(target.value);
});

// The others see at once that this page is left; one that comes back from the browser's store begins anew.
addEventListener('pagehide', () => hub.stop());
addEventListener('pageshow', ({ persisted }) => persisted && connect(hub.options.transport));

at('name').value = name;
at('address').textContent = address;
choice(transportFromAddress()).checked = true;
showCurl();
connect(transportFromAddress());
