// node outage.mjs URL,URL --modules DIR [--clients N]
// Clients that count, while something happens to their servers. Each calls the hub with numbers one after another, and has it send each
// number back as a message. Writes READY when all of them have done so for a while; goes on until a line comes on standard input, and for
// a while after that; then writes one line of JSON: what each client saw.

import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const [urls, ...rest] = process.argv.slice(2);
const option = (name, fallback) => (rest.includes(name) ? rest[rest.indexOf(name) + 1] : fallback);
const require = createRequire(join(resolve(option('--modules', '.')), 'node_modules', 'from-here.js'));
const { HubConnectionBuilder, HubConnectionState, HttpTransportType, LogLevel } = require('@microsoft/signalr');
const { MessagePackHubProtocol } = require('@microsoft/signalr-protocol-msgpack');

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const WHILE = 20;
let ended = false;

class Client {
  constructor(number, url) {
    // what may be refused while a server is away is tried again for long enough
    const pauses = Array(60).fill(500);
    const transport = [HttpTransportType.WebSockets, HttpTransportType.ServerSentEvents, HttpTransportType.LongPolling][number % 3];
    let builder = new HubConnectionBuilder().withUrl(`${url}/conformance`, { transport }).withAutomaticReconnect(pauses).configureLogging(LogLevel.None);
    if (number % 2 && transport !== HttpTransportType.ServerSentEvents) builder = builder.withHubProtocol(new MessagePackHubProtocol());
    this.connection = builder.build();
    this.saw = { transport: HttpTransportType[transport], calls: 0, wrong: 0, failures: 0, reconnects: 0, closed: 0, doubled: 0, lost: 0, ids: 1, left: 0 };
    this.heard = new Map();
    this.connection.on('message', (_, x) => this.heard.set(x, (this.heard.get(x) ?? 0) + 1));
    this.connection.on('welcome', () => {});
    this.connection.onreconnecting(() => (this.saw.reconnects += 1));
    this.connection.onclose(() => (this.saw.closed += 1));
  }

  async run() {
    await this.connection.start();
    const first = this.connection.connectionId;
    const { saw } = this;
    for (let n = 0; !ended || this.after < WHILE; n += 1) {
      if (ended) this.after = (this.after ?? 0) + 1;
      while (this.connection.state !== HubConnectionState.Connected && !saw.closed) await sleep(20);
      if (saw.closed) break;
      try {
        if ((await this.connection.invoke('Echo', n)) !== n) saw.wrong += 1;
        await this.connection.invoke('ToCaller', n);
        saw.calls += 1;
        // a message precedes the completion of the call that sent it
        const times = this.heard.get(n) ?? 0;
        if (times === 0) saw.lost += 1;
        if (times > 1) saw.doubled += 1;
        this.heard.delete(n);
      } catch {
        saw.failures += 1;
      }
      await sleep(10);
    }
    if (this.connection.connectionId !== first) saw.ids += 1;
    saw.left = this.heard.size;
    if (!saw.closed) {
      await this.connection.stop();
      saw.closed -= 1;
    }
    return saw;
  }
}

const servers = urls.split(',');
const clients = Array.from({ length: Number(option('--clients', '24')) }, (_, n) => new Client(n, servers[n % servers.length]));
const running = clients.map((client) => client.run());
while (clients.some((client) => client.saw.calls < WHILE)) await sleep(20);
console.log('READY');
createInterface({ input: process.stdin }).once('line', () => {
  for (const client of clients) client.after = 0;
  ended = true;
});
const saw = await Promise.all(running);
console.log(JSON.stringify(saw));
process.exit(0);
