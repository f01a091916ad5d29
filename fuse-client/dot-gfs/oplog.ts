/**
 * The live trace of a mount's operations, as lines (`.gfs/oplog`): whoever reads it waits for the next
 * ones. What happens while nobody reads is not kept.
 */
import { GfsError } from '../../protocol/errors.js';
import type { Cancellation } from '../../protocol/rpc.js';

/** Lines that wait for one reader; the oldest go when it does not follow, and it is told how many. */
const MAX_WAITING_LINES = 8192;

interface Reader {
  readonly lines: Buffer[];
  lost: number;
  wake: (() => void) | undefined;
}

export class Oplog {
  readonly #readers = new Map<number, Reader>();
  #next = 1;

  /** Whether a line would be read by anybody. */
  get isRead(): boolean {
    return this.#readers.size > 0;
  }

  write(line: string): void {
    const bytes = Buffer.from(`${line}\n`);
    for (const reader of this.#readers.values()) {
      reader.lines.push(bytes);
      if (reader.lines.length > MAX_WAITING_LINES) {
        reader.lines.shift();
        reader.lost++;
      }
      reader.wake?.();
    }
  }

  open(): number {
    const handle = this.#next++;
    this.#readers.set(handle, { lines: [], lost: 0, wake: undefined });
    return handle;
  }

  close(handle: number): void {
    const reader = this.#readers.get(handle);
    this.#readers.delete(handle);
    reader?.wake?.();
  }

  /**
   * What has happened since the last read, up to `length` bytes; if nothing has, waits for something.
   * @throws CANCELLED when the reader is interrupted
   */
  async read(handle: number, length: number, isBlocking: boolean, signal: Cancellation): Promise<Buffer> {
    const reader = this.#readers.get(handle);
    if (reader === undefined) throw new GfsError('BAD_HANDLE', `handle ${handle}`);
    if (reader.lines.length === 0) {
      // EAGAIN, which is what a reader with O_NONBLOCK expects.
      if (!isBlocking) throw new GfsError('OVERLOADED', 'nothing has happened since');
      await untilWritten(reader, signal);
    }
    if (reader.lost > 0) {
      reader.lines.unshift(Buffer.from(`# ${reader.lost} operations were not read in time\n`));
      reader.lost = 0;
    }
    return take(reader.lines, length);
  }
}

async function untilWritten(reader: Reader, signal: Cancellation): Promise<void> {
  if (signal.aborted) throw new GfsError('CANCELLED');
  await new Promise<void>((resolve, reject) => {
    const onAbort = () => {
      reader.wake = undefined;
      reject(new GfsError('CANCELLED'));
    };
    signal.addEventListener('abort', onAbort, { once: true });
    reader.wake = () => {
      reader.wake = undefined;
      signal.removeEventListener('abort', onAbort);
      resolve();
    };
  });
}

/** The first lines, whole as far as they fit. */
function take(lines: Buffer[], length: number): Buffer {
  const taken: Buffer[] = [];
  let bytes = 0;
  for (let line = lines[0]; line !== undefined; line = lines[0]) {
    if (bytes + line.byteLength > length) {
      if (bytes > 0) break;
      taken.push(line.subarray(0, length));
      lines[0] = line.subarray(length);
      break;
    }
    taken.push(line);
    bytes += line.byteLength;
    lines.shift();
  }
  return Buffer.concat(taken);
}
