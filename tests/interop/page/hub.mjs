// node hub.mjs URL
// Runs `hub.test.mjs` on the client of the page, as the server at URL serves it.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [url] = process.argv.slice(2);
const folder = await mkdtemp(join(tmpdir(), 'hubwire-page-'));
await writeFile(join(folder, 'package.json'), '{"type":"module"}');
for (const name of ['hub.js', 'channels.js']) await writeFile(join(folder, name), await (await fetch(`${url}/demo/${name}`)).text());

const tests = join(dirname(fileURLToPath(import.meta.url)), 'hub.test.mjs');
// Node.js 20 has a WebSocket only when asked; it is there in later ones, which take the flag as well.
const flags = ['--experimental-websocket', '--no-warnings', '--test-reporter=tap', '--test'];
const child = spawn(process.execPath, [...flags, tests], { env: { ...process.env, HUBWIRE_URL: url, HUBWIRE_CLIENT: join(folder, 'hub.js') }, stdio: ['ignore', 'pipe', 'inherit'] });
let said = '';
child.stdout.on('data', (bytes) => {
  process.stdout.write(bytes);
  said += bytes;
});
const status = await new Promise((over) => child.on('close', over));
await rm(folder, { recursive: true });
const count = (word) => Number(said.match(new RegExp(`^# ${word} (\\d+)$`, 'm'))?.[1] ?? 0);
console.log(`${count('pass')} passed, ${count('fail') + count('cancelled')} failed`);
process.exit(status);
