// A line to a server that can break without a goodbye.

import net from 'node:net';

export class Line {
  sockets = new Set();
  isWhole = true;

  // Forwards from a port of its own.
  static async to(url) {
    const line = new Line();
    const { hostname, port } = new URL(url);
    line.server = net.createServer((near) => line.join(near, net.connect(Number(port), hostname)));
    await new Promise((listening) => line.server.listen(0, '127.0.0.1', listening));
    line.url = `http://127.0.0.1:${line.server.address().port}`;
    return line;
  }

  join(near, far) {
    for (const [one, other] of [[near, far], [far, near]]) {
      this.sockets.add(one);
      one.on('data', (bytes) => other.write(bytes));
      one.on('end', () => other.end());
      one.on('error', () => other.destroy());
      one.on('close', () => (other.destroy(), this.sockets.delete(one)));
    }
    if (!this.isWhole) this.reset();
  }

  // Nothing gets through any more, and both ends see a reset.
  sever() {
    this.isWhole = false;
    this.reset();
  }

  restore() {
    this.isWhole = true;
  }

  reset() {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  // Holds back what comes, with the sockets open: neither end sees anything.
  stall() {
    for (const socket of this.sockets) socket.pause();
  }

  close() {
    this.server.close();
    this.reset();
  }
}
