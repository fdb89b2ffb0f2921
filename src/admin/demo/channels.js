// The three ways to a hub, each from `open` until it is `lost`: `hub.js` says what goes over them.
//
// `cut` acts as if the network had gone and tells whether what is sent from then on waits; `mend` tells whether the channel is of use
// again. `leave` tells the server, `lose` only ends it here.

class Channel {
  polls = false;

  constructor(address, platform) {
    this.address = address;
    this.platform = platform;
    this.lost = new Promise((over) => (this.isOver = over));
  }

  lose(error) {
    this.release();
    this.isOver(error);
  }
}

// Sockets that must neither be closed, which would end the connection, nor be collected, which would close them.
const abandoned = new Set();

class WebSocketChannel extends Channel {
  open() {
    const socket = new this.platform.WebSocket(this.address.replace(/^http/, 'ws'));
    this.socket = socket;
    socket.onmessage = ({ data }) => this.ontext(data);
    socket.onclose = ({ code }) => this.lose(new Error(`the connection is lost (${code})`));
    // What cannot be opened is closed in browsers, but not everywhere.
    socket.onerror = () => this.lose(new Error('the connection is lost'));
    return new Promise((open) => (socket.onopen = open));
  }

  send(text) {
    if (this.socket.onmessage && this.socket.readyState === 1) this.socket.send(text);
  }

  cut() {
    this.release();
    return true;
  }

  mend() {
    return false;
  }

  release() {
    abandoned.add(this.socket);
    this.socket.onmessage = this.socket.onerror = null;
    this.socket.onclose = () => abandoned.delete(this.socket);
  }

  leave() {
    this.socket.close();
  }
}

// Messages to the server go by POST, one at a time, so that they keep their order.
class HttpChannel extends Channel {
  outbox = '';
  pause = null;
  stop = new AbortController();

  send(text) {
    this.outbox += text;
    this.posting ??= this.flush().finally(() => (this.posting = null));
  }

  async flush() {
    try {
      for (await this.pause; this.outbox && !this.isReleased; await this.pause) {
        const body = this.outbox;
        this.outbox = '';
        const answer = await this.platform.fetch(this.address, { method: 'POST', body, signal: this.stop.signal });
        if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
      }
    } catch (error) {
      this.lose(error);
    }
  }

  // Requests under way would only be answered that the connection is gone.
  release() {
    this.isReleased = true;
    this.stop.abort();
  }
}

class EventStreamChannel extends HttpChannel {
  open() {
    this.source = new this.platform.EventSource(this.address);
    this.source.onmessage = ({ data }) => this.ontext(data);
    // It would try again by itself, with an address that is of use only once.
    this.source.onerror = () => this.lose(new Error('the event stream is lost'));
    return new Promise((open) => (this.source.onopen = open));
  }

  cut() {
    this.release();
    return false;
  }

  mend() {
    return false;
  }

  release() {
    super.release();
    this.source.close();
  }

  leave() {
    this.source.close();
  }
}

class PollingChannel extends HttpChannel {
  polls = true;

  // The first poll is answered at once.
  async open() {
    await this.poll();
    this.keepPolling();
  }

  async keepPolling() {
    try {
      while (!this.isReleased) {
        await this.pause;
        const text = await this.poll();
        await this.pause;
        if (!this.isReleased) this.ontext(text);
      }
    } catch (error) {
      this.lose(error);
    }
  }

  async poll() {
    const answer = await this.platform.fetch(`${this.address}&_=${Date.now()}`, { signal: this.stop.signal, cache: 'no-store' });
    if (answer.status === 204) throw new Error('the server has closed the connection');
    if (answer.status !== 200) throw new Error(`the server answers ${answer.status}`);
    return answer.text();
  }

  cut() {
    this.pause = new Promise((goOn) => (this.goOn = goOn));
    return true;
  }

  mend() {
    this.pause = null;
    this.goOn();
    return true;
  }

  // Also from a page that is being left.
  leave() {
    this.platform.fetch(this.address, { method: 'DELETE', keepalive: true }).catch(() => {});
  }
}

export const CHANNELS = { WebSockets: WebSocketChannel, ServerSentEvents: EventStreamChannel, LongPolling: PollingChannel };
