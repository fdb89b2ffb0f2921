// A client of the SignalR hub protocol in JSON, for the page beside it: three transports, calls, streams, methods that the
// server calls, reconnecting, and resuming a WebSocket without losing a message. Runs in Node.js too.

import { CHANNELS } from './channels.js';

const END = '\x1e';
const Type = { call: 1, item: 2, completion: 3, stream: 4, cancel: 5, ping: 6, close: 7, ack: 8, sequence: 9 };

const DEFAULTS = {
  transport: 'WebSockets',
  // Milliseconds before each try to connect again; the last one goes on for ever. Empty: no try.
  delays: [0, 1000, 2000, 5000, 10000],
  // Before each try to resume. The server keeps a connection without a socket for 15 s.
  resumeDelays: [0, 1000, 2000, 4000],
  pingInterval: 15000,
  serverTimeout: 30000,
  // For what the server says first on a new channel.
  greetingTimeout: 15000,
  // Characters that the server has not acknowledged, from which on `send` waits.
  keepLimit: 100000,
  // Where `fetch`, `WebSocket` and `EventSource` are.
  platform: globalThis,
};

// A connection to a hub, from `start` to its end. Its `state` is one of:
//
//   new -> connecting -> on --lost--> resuming --> on              the same connection, with nothing lost
//                         \            ^    \--> reconnecting --> on    a new one: who was in a group joins it again
//                          \-> cut ---/                                 and at last: off
export class HubConnection {
  constructor(url, options = {}) {
    this.url = url;
    this.options = { ...DEFAULTS, ...options };
    this.state = 'new';
    // Called with each new state and what is known about it: `error`, and with `on` whether it is `resumed`.
    this.onstate = () => {};
    // What comes now was sent while there was no channel.
    this.isCatchingUp = false;
    this.handlers = new Map();
    this.calls = new Map();
    this.nextCall = 0;
  }

  // Sets what runs when the server calls a method of this client; what it returns is the answer.
  on(target, handler) {
    this.handlers.set(target.toLowerCase(), handler);
  }

  // Connects; rejects if the first try fails.
  async start() {
    if (this.state !== 'new') throw new Error('a connection starts once');
    this.enter('connecting');
    try {
      await this.connect();
    } catch (error) {
      this.over(error);
      throw error;
    }
    this.live();
  }

  // Leaves; the server knows at once.
  stop() {
    this.over();
  }

  // Calls a method; resolves with its result.
  invoke(target, ...args) {
    return new Promise((done, fail) => this.call(Type.call, target, args, { done, fail }));
  }

  // Calls a method without waiting for it; resolves once there is room for more.
  async send(target, ...args) {
    this.post({ type: Type.call, target, arguments: args });
    const { replay } = this;
    if (replay?.size > this.options.keepLimit) await new Promise((room) => replay.waiting.push(room));
  }

  // Calls a streaming method: `for await (const item of hub.stream('Counter', 10, 500))`. Leaving the loop cancels the stream, and so
  // does `return`, from elsewhere.
  stream(target, ...args) {
    const items = [];
    let end = null;
    let wake = () => {};
    const finish = (error) => wake((end ??= { error }));
    const id = this.call(Type.stream, target, args, { item: (value) => wake(items.push(value)), done: () => finish(), fail: finish });
    const next = async () => {
      while (items.length === 0 && !end) await new Promise((more) => (wake = more));
      if (items.length === 0 && end.error) throw end.error;
      return items.length ? { value: items.shift(), done: false } : { value: undefined, done: true };
    };
    const leave = async () => {
      if (this.calls.delete(id)) this.post({ type: Type.cancel, invocationId: id });
      items.length = 0;
      finish();
      return { value: undefined, done: true };
    };
    return { next, return: leave, [Symbol.asyncIterator]() { return this; } };
  }

  // Acts as if the network had gone, until `mend`: what arrives is thrown away, what is sent waits. A page cannot break a WebSocket
  // without a goodbye, so the server notices when the client is back, as with a phone that has left its network. Long polling makes
  // a pause; server-sent events lose the connection.
  cut() {
    if (this.state !== 'on') return;
    this.quiet();
    this.isOpen = this.channel.cut();
    if (!this.isOpen) this.giveUp(new Error('the connection was cut'));
    this.enter('cut');
  }

  mend() {
    if (this.state !== 'cut') return;
    if (!this.channel.mend()) return this.channel.lose(new Error('the connection was cut'));
    this.attend();
    this.catchUp();
    this.enter('on', { resumed: true });
  }

  async connect() {
    const { transport, platform } = this.options;
    const wish = transport === 'WebSockets' ? '&useStatefulReconnect=true' : '';
    const answer = await platform.fetch(`${this.url}/negotiate?negotiateVersion=1${wish}`, { method: 'POST' });
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    const offer = await answer.json();
    if (offer.error) throw new Error(offer.error);
    const offered = offer.availableTransports.some((one) => one.transport === transport);
    if (!offered) throw new Error(`the server does not offer ${transport}`);
    this.id = offer.connectionId;
    this.address = `${this.url}?id=${encodeURIComponent(offer.connectionToken)}`;
    this.replay = offer.useStatefulReconnect ? new Replay() : null;
    await this.open('handshake', () => [write({ protocol: 'json', version: this.replay ? 2 : 1 })]);
    this.enter('on', { resumed: false });
  }

  // Opens a channel in place of the one before, says what has to be said first, and waits for the server to do so.
  async open(phase, greeting) {
    if (this.state === 'off') throw new Error('stopped');
    const channel = new CHANNELS[this.options.transport](this.address, this.options.platform);
    this.channel = channel;
    this.phase = phase;
    channel.ontext = (text) => this.channel === channel && this.receive(text);
    const greeted = new Promise((done) => (this.greeted = done));
    const broken = channel.lost.then((error) => Promise.reject(error));
    const late = setTimeout(() => channel.lose(new Error('the server does not answer')), this.options.greetingTimeout);
    try {
      await Promise.race([channel.open(), broken]);
      this.isOpen = true;
      for (const text of greeting()) channel.send(text);
      await Promise.race([greeted, broken]);
      this.attend();
    } catch (error) {
      this.quiet();
      channel.lose(error);
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  // From channel to channel, until nobody wants one.
  async live() {
    while (this.state !== 'off') {
      const error = await this.channel.lost;
      this.quiet();
      if (await this.resume()) continue;
      this.giveUp(error);
      if (!(await this.reconnect(error))) return;
    }
  }

  async resume() {
    if (this.replay) this.enter('resuming');
    for (const delay of this.options.resumeDelays) {
      await wait(delay);
      // A goodbye of the server ends the replay.
      if (this.state === 'off' || !this.replay) return false;
      try {
        await this.open('sequence', () => this.replay.again());
        this.enter('on', { resumed: true });
        return true;
      } catch {
        // The next try may do.
      }
    }
    return false;
  }

  async reconnect(error) {
    const { delays } = this.options;
    for (let tries = 0; this.state !== 'off'; tries += 1) {
      if (delays.length === 0) return this.over(error);
      this.enter('reconnecting', { error });
      await wait(delays[Math.min(tries, delays.length - 1)]);
      try {
        await this.connect();
        return true;
      } catch (failure) {
        error = failure;
      }
    }
    return false;
  }

  receive(text) {
    this.heard();
    for (const record of text.split(END)) {
      if (record !== '') this.take(JSON.parse(record));
    }
  }

  take(message) {
    if (this.phase === 'handshake') {
      if (message.error) return this.channel.lose(new Error(message.error));
      this.phase = 'messages';
      return this.greeted();
    }
    if (this.phase === 'sequence' && message.type !== Type.sequence) return;
    if (this.replay && message.type <= Type.cancel) {
      this.acknowledge();
      if (!this.replay.isNew()) return;
    }
    this.act(message);
  }

  act(message) {
    const call = this.calls.get(message.invocationId);
    switch (message.type) {
      case Type.call:
        return this.answer(message);
      case Type.item:
        return call?.item?.(message.item);
      case Type.completion:
        this.calls.delete(message.invocationId);
        return message.error ? call?.fail(new Error(message.error)) : call?.done(message.result);
      case Type.close:
        return this.closed(message);
      case Type.ack:
        return this.replay?.acknowledged(message.sequenceId);
      case Type.sequence:
        return this.continues(message.sequenceId);
    }
  }

  async answer({ invocationId, target, arguments: args }) {
    const handler = this.handlers.get(target.toLowerCase());
    let outcome = { error: "Client didn't provide a result." };
    try {
      if (handler) outcome = { result: (await handler(...args)) ?? null };
    } catch (error) {
      outcome = { error: error.message };
      if (!invocationId) console.error(error);
    }
    if (invocationId && this.state !== 'off') this.post({ type: Type.completion, invocationId, ...outcome });
  }

  // The server ends the connection: it cannot be resumed.
  closed({ error, allowReconnect }) {
    const reason = new Error(error ?? 'the server has closed the connection');
    if (!allowReconnect) return this.over(reason);
    this.giveUp(reason);
    this.channel.lose(reason);
  }

  // The server says which of its messages comes next on a channel that resumes.
  continues(number) {
    if (!this.replay?.startAt(number)) return this.closed({ error: 'the server left messages out', allowReconnect: true });
    this.phase = 'messages';
    this.acknowledge();
    this.catchUp();
    this.greeted();
  }

  // What the server kept comes in one go, at most a few frames.
  catchUp() {
    this.isCatchingUp = true;
    setTimeout(() => (this.isCatchingUp = false), 250);
  }

  // Once a second, for all that has come.
  acknowledge() {
    this.ackTimer ??= setTimeout(() => {
      this.ackTimer = null;
      if (this.isOpen && this.replay) this.channel.send(write({ type: Type.ack, sequenceId: this.replay.latest }));
    }, 1000);
  }

  call(type, target, args, call) {
    const invocationId = String(this.nextCall++);
    this.post({ type, invocationId, target, arguments: args });
    this.calls.set(invocationId, call);
    return invocationId;
  }

  // Without a channel a message waits for the replay, if there will be one.
  post(message) {
    const waits = this.replay && this.phase !== 'handshake';
    if (!this.isOpen && !waits) throw new Error('not connected');
    const text = write(message);
    this.replay?.keep(text);
    if (this.isOpen) this.channel.send(text);
  }

  // The channel is of use from now on.
  attend() {
    this.heard();
    clearInterval(this.pings);
    if (this.channel.polls) return;
    const ping = () => this.channel.send(write({ type: Type.ping }));
    this.pings = setInterval(ping, this.options.pingInterval);
    ping();
  }

  // Silence for too long is a lost channel. A poll has a time of its own.
  heard() {
    const { channel } = this;
    clearTimeout(this.silence);
    if (channel.polls) return;
    this.silence = setTimeout(() => channel.lose(new Error('the server is silent')), this.options.serverTimeout);
  }

  quiet() {
    this.isOpen = false;
    clearInterval(this.pings);
    clearTimeout(this.silence);
    clearTimeout(this.ackTimer);
    this.ackTimer = null;
  }

  // Nothing will be resumed: answers that have not come never will.
  giveUp(error) {
    const calls = [...this.calls.values()];
    this.calls.clear();
    for (const call of calls) call.fail(error);
    this.replay?.acknowledged(Infinity);
    this.replay = null;
  }

  // Ends for good: on our side, or by an error.
  over(error) {
    if (this.state === 'off') return false;
    this.enter('off', { error });
    this.quiet();
    if (!error) this.channel?.leave();
    const reason = error ?? new Error('stopped');
    this.channel?.lose(reason);
    this.giveUp(reason);
    return false;
  }

  enter(state, about = {}) {
    this.state = state;
    this.onstate(state, about);
  }
}

// What both sides keep so that a connection goes on over another socket: messages of the types 1 to 5 are counted, from 1, and never
// told their number.
class Replay {
  // Sent and not acknowledged; the number of the first one; characters.
  kept = [];
  first = 1;
  size = 0;
  // Of received messages: the number of the next, and the highest so far.
  next = 1;
  latest = 0;
  waiting = [];

  keep(text) {
    this.kept.push(text);
    this.size += text.length;
  }

  acknowledged(number) {
    while (this.kept.length && this.first <= number) {
      this.size -= this.kept.shift().length;
      this.first += 1;
    }
    for (const room of this.waiting.splice(0)) room();
  }

  // What is said first on another socket.
  again() {
    return [write({ type: Type.sequence, sequenceId: this.first }), ...this.kept];
  }

  // Counts a message that has come; it may have come before.
  isNew() {
    const number = this.next++;
    if (number <= this.latest) return false;
    this.latest = number;
    return true;
  }

  startAt(number) {
    if (number > this.next) return false;
    this.next = number;
    return true;
  }
}

const write = (message) => JSON.stringify(message) + END;

const wait = (milliseconds) => new Promise((over) => setTimeout(over, milliseconds));
