/** Scrubbing, and what a chunkserver tells of its health. */
import { method } from '../rpc.js';
import { bool, struct, u32, u53, type ValueOf } from '../schema.js';

/** Where a chunkserver is with checking all its replicas against their checksums (paper §5.2). */
export const scrubProgressCodec = struct({
  running: bool,
  /** Replicas, of the pass that runs or that ran last. */
  checked: u53,
  total: u53,
  /** Damaged replicas that this pass has found. */
  damaged: u53,
  /** Completed by this server, since its first start. */
  passes: u53,
});
export type ScrubProgress = ValueOf<typeof scrubProgressCodec>;

export const healthCodec = struct({
  disks: u32,
  /** Given up after errors. */
  failedDisks: u32,
  scrub: scrubProgressCodec,
});
export type Health = ValueOf<typeof healthCodec>;

/** To a chunkserver: begin a pass now, with `now`; in any case tell how far it is. */
export const Scrub = method(192, 'scrub', struct({ now: bool }), struct({ scrub: scrubProgressCodec }));
