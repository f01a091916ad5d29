/** What a socket tells its owner. Callbacks come one at a time and never before the one that set them returned. */
export interface SocketEvents {
  /** Bytes have arrived. `chunk` is borrowed: its memory is reused once the callback returns. */
  onData(chunk: Uint8Array): void;
  /** Everything queued by {@link Socket.write} has been handed to the kernel, after `write` had returned false. */
  onDrain(): void;
  /** The connection is over, on whatever side; called once, last. `error` is absent after an orderly end. */
  onClose(error?: Error): void;
}

/** A connected stream. */
export interface Socket {
  /** For people: `host:port`. */
  readonly remote: string;
  /** Hands over the events; data that came before waits for it. */
  start(events: SocketEvents): void;
  /**
   * Queues the buffers in order and gathers what is written in one turn of the event loop into one
   * system call. Their memory must not change until `onWritten` (called also when the socket closes).
   * Returns false when the queue is above its high-water mark: wait for `onDrain`.
   * @param now not at the end of this turn, with what follows, but before the caller goes on
   */
  write(buffers: readonly Uint8Array[], onWritten?: () => void, now?: boolean): boolean;
  /** Stops `onData` until {@link resume}; TCP then slows the sender. */
  pause(): void;
  resume(): void;
  /** Sends what is queued, then closes. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

export interface Listener {
  /** Where it listens, with the port that the system chose for port 0. */
  readonly host: string;
  readonly port: number;
  /** Stops listening; connected sockets stay. */
  close(): Promise<void>;
}

export interface Network {
  /** Connects within `timeoutMs`. Rejects with Node's error codes (`ECONNREFUSED`, `ETIMEDOUT`, …). */
  connect(host: string, port: number, timeoutMs: number): Promise<Socket>;
  /** Listens; rejects with `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`. */
  listen(host: string, port: number, onSocket: (socket: Socket) => void): Promise<Listener>;
}
