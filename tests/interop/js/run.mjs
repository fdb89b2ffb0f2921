// node run.mjs URL --modules DIR [--client microsoft|aspnet] [--transports WebSockets,ServerSentEvents,LongPolling]
//   [--protocols json,messagepack] [--only TEXT] [--without TEXT,TEXT] [--reference] [--service] [--stop] [--log]
// DIR is where the packages of package.json were installed. `--reference` expects what ASP.NET Core 10 does where the
// hub here differs on purpose; `--service` knows what is lost through the service; `--stop` stops the server at the end.

import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { lanesOf, runAll } from './cases.mjs';

const [url, ...rest] = process.argv.slice(2);
const option = (name, fallback) => (rest.includes(name) ? rest[rest.indexOf(name) + 1] : fallback);
const list = (name, fallback) => option(name, fallback).split(',').filter((part) => part !== '');
const client = option('--client', 'microsoft');
const require = createRequire(join(resolve(option('--modules', '.')), 'node_modules', 'from-here.js'));

const env = {
  url,
  client,
  signalr: require(`@${client}/signalr`),
  msgpack: require(`@${client}/signalr-protocol-msgpack`),
  limits: {},
  reference: rest.includes('--reference'),
  service: rest.includes('--service'),
  only: option('--only'),
  without: list('--without', ''),
  log: rest.includes('--log'),
  line: console.log,
  token: async (user, role) => (await fetch(`${url}/token?${new URLSearchParams({ user, role })}`)).text(),
  // The TCP connection breaks without a close frame, as when a network goes away.
  cut: (connection) => (connection.connection.transport._webSocket ?? connection.connection.transport.webSocket).terminate(),
  stop: rest.includes('--stop') ? () => fetch(`${url}/stop`, { method: 'POST' }) : undefined,
};

// Between a server's stop and the process's end a client may still poll; what comes of it is nobody's call.
process.on('unhandledRejection', (error) => console.log(`     unhandled in the client: ${error?.message ?? error}`));

const transports = list('--transports', 'WebSockets,ServerSentEvents,LongPolling');
const protocols = list('--protocols', 'json,messagepack');
const { passed, failed } = await runAll(env, lanesOf(transports, protocols, env.service));
console.log(`${passed} passed, ${failed} failed`);
// Connections that a failed case left half open must not hold the process.
process.exit(failed || !passed ? 1 : 0);
