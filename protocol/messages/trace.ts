/** Reading a process' trace of requests (paper §5.3), from memory. Masters and chunkservers answer it. */
import { MAX_TRACE_PAGE_BYTES } from '../limits.js';
import { method } from '../rpc.js';
import { bytes, list, optional, struct, text, u32, u53 } from '../schema.js';
import { TRACE_METHOD } from '../trace.js';

export const MAX_TRACED_PEERS = 4096;

/**
 * The records from `position` on, as docs/formats/rpc-trace.md has them; without one, from the oldest
 * that is left. @throws NOT_SUPPORTED: this process does not trace
 */
export const GetTrace = method(
  TRACE_METHOD,
  'getTrace',
  struct({ position: optional(u53), maxBytes: u32 }),
  struct({
    records: bytes(MAX_TRACE_PAGE_BYTES),
    next: u53,
    /** Bytes between `position` and the first record that are gone. */
    lostBytes: u53,
    /** Records that did not get into the files since the process began. */
    dropped: u53,
    /** Those who are connected, for records whose connection began before. */
    peers: list(struct({ number: u32, role: text(16), id: text(64), remote: text(255) }), MAX_TRACED_PEERS),
  }),
);
