/** TCP by node:net. See {@link Network} for the contract. */
import * as net from 'node:net';
import type { Listener, Logger, Network, Socket, SocketEvents } from '../ports/index.js';

/**
 * All sockets read into this one buffer, which onData then lends to its caller. A 'data' event takes
 * fresh memory for each read, whose page faults cost more than the read: measured over loopback,
 * 0.25 CPU seconds per GiB with 'data', 0.10 with this. 64 KiB stay in the processor's cache; 256 KiB
 * took 0.14.
 */
const RECEIVE_BUFFER = Buffer.allocUnsafeSlow(64 * 1024);

/** What may wait in this process for the kernel to take it before `write` says false. */
const SEND_QUEUE_BYTES = 4 * 1024 * 1024;
/** How long an ended connection may take to send its last bytes and hear the other side end. */
const LINGER_MS = 1_000;
/** How soon a silent connection is probed: a host that vanished is noticed though nobody sends. */
const KEEP_ALIVE_MS = 10_000;

class NodeSocket implements Socket {
  readonly remote: string;
  readonly #socket: net.Socket;
  #events: SocketEvents | undefined;
  #paused = false;
  #corked = false;
  #ended = false;
  #closed = false;
  #error: Error | undefined;
  #linger: NodeJS.Timeout | undefined;

  /** @param wrap makes the underlying socket, not reading yet, that gives what it receives to the function */
  constructor(wrap: (onData: (chunk: Uint8Array) => void) => net.Socket) {
    this.#socket = wrap((chunk) => this.#onData(chunk));
    this.remote = `${this.#socket.remoteAddress}:${this.#socket.remotePort}`;
    this.#socket.setNoDelay(true);
    this.#socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#socket.on('drain', () => this.#events?.onDrain());
    this.#socket.on('end', () => {
      // The other side is done, so nobody reads what we would still write.
      this.#ended = true;
    });
    this.#socket.on('error', (error) => {
      this.#error = error;
    });
    this.#socket.on('close', () => this.#onClose());
  }

  start(events: SocketEvents): void {
    this.#events = events;
    if (this.#closed) process.nextTick(() => events.onClose(this.#error));
    else if (!this.#paused) this.#socket.resume();
  }

  #onData(chunk: Uint8Array): void {
    // After end() what arrives is read, so that the end behind it is seen, and dropped.
    if (!this.#ended) this.#events?.onData(chunk);
  }

  #onClose(): void {
    this.#closed = true;
    clearTimeout(this.#linger);
    this.#events?.onClose(this.#error);
  }

  write(buffers: readonly Uint8Array[], onWritten?: () => void, now = false): boolean {
    if (this.#ended || this.#socket.destroyed) {
      if (onWritten !== undefined) process.nextTick(onWritten);
      return true;
    }
    if (!this.#corked && !(now && buffers.length === 1)) {
      this.#corked = true;
      this.#socket.cork();
      // Until all callbacks and promises of this turn have run: what they write leaves in one writev(2).
      if (!now) process.nextTick(uncork, this);
    }
    const last = buffers.length - 1;
    let belowHighWaterMark = true;
    for (let i = 0; i < last; i++) this.#socket.write(buffers[i] as Uint8Array);
    if (last >= 0) belowHighWaterMark = this.#socket.write(buffers[last] as Uint8Array, onWritten);
    else if (onWritten !== undefined) process.nextTick(onWritten);
    if (now) this.uncork();
    return belowHighWaterMark;
  }

  uncork(): void {
    if (!this.#corked) return;
    this.#corked = false;
    this.#socket.uncork();
  }

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#events !== undefined) this.#socket.resume();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket.end();
    this.#socket.resume();
    this.#linger = setTimeout(() => this.#socket.destroy(), LINGER_MS).unref();
  }

  destroy(): void {
    this.#ended = true;
    this.#socket.destroy();
  }
}

function uncork(socket: NodeSocket): void {
  socket.uncork();
}

/** Options of a net.Socket that reads into {@link RECEIVE_BUFFER}. */
function receiving(onData: (chunk: Uint8Array) => void): net.SocketConstructorOpts {
  const options = {
    writableHighWaterMark: SEND_QUEUE_BYTES,
    onread: {
      buffer: RECEIVE_BUFFER,
      callback: (count: number) => {
        onData(RECEIVE_BUFFER.subarray(0, count));
        return true;
      },
    },
  };
  return options as net.SocketConstructorOpts;
}

function connectSocket(host: string, port: number, timeoutMs: number): Promise<NodeSocket> {
  return new Promise((resolve, reject) => {
    let deliver: (chunk: Uint8Array) => void = () => undefined;
    const socket = new net.Socket(receiving((chunk) => deliver(chunk)));
    // Paused before it connects: nothing is read until the owner has set its callbacks.
    socket.pause();
    const timer = setTimeout(() => {
      const message = `connect to ${host}:${port} timed out after ${timeoutMs} ms`;
      socket.destroy(Object.assign(new Error(message), { code: 'ETIMEDOUT' }));
    }, timeoutMs);
    const onError = (error: Error) => {
      clearTimeout(timer);
      reject(error);
    };
    socket.once('error', onError);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.removeListener('error', onError);
      resolve(
        new NodeSocket((onData) => {
          deliver = onData;
          return socket;
        }),
      );
    });
    socket.connect({ host, port });
  });
}

/**
 * Node offers `onread` for the sockets it makes with connect alone. An accepted one, made paused, gives
 * its handle to a socket of our own making; should a later Node hide the handle, 'data' events do.
 */
function acceptSocket(accepted: net.Socket): NodeSocket {
  const { _handle: handle } = accepted as unknown as { _handle?: object | null };
  if (handle === undefined || handle === null) {
    return new NodeSocket((onData) => {
      // Listening would set it flowing, so it is paused again: it reads from start() on.
      accepted.on('data', onData);
      accepted.pause();
      return accepted;
    });
  }
  (accepted as unknown as { _handle: null })._handle = null;
  return new NodeSocket((onData) => {
    const options = { ...receiving(onData), handle, pauseOnCreate: true };
    return new net.Socket(options as net.SocketConstructorOpts);
  });
}

export class NodeNetwork implements Network {
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  connect(host: string, port: number, timeoutMs: number): Promise<Socket> {
    return connectSocket(host, port, timeoutMs);
  }

  listen(host: string, port: number, onSocket: (socket: Socket) => void): Promise<Listener> {
    return new Promise((resolve, reject) => {
      const server = net.createServer({ pauseOnConnect: true }, (accepted) =>
        onSocket(acceptSocket(accepted)),
      );
      server.once('error', reject);
      server.listen({ host, port }, () => {
        server.removeListener('error', reject);
        // Out of descriptors, mostly. Those who knock are turned away; those who are in stay.
        server.on('error', (err) => this.#logger.error({ err }, 'cannot accept a connection'));
        const { address, port: boundPort } = server.address() as net.AddressInfo;
        resolve({
          host: address,
          port: boundPort,
          close: () =>
            new Promise((closed) => {
              // Not server.close()'s callback: that waits for the connections, which stay.
              server.close();
              setImmediate(closed);
            }),
        });
      });
    });
  }
}
