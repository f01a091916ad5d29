/** What changes below a node, told as it happens. inotify(7) does not cross mounts. */
import { method } from '../rpc.js';
import { bool, int, list, oneOf, optional, struct, text, u32, u53, type ValueOf } from '../schema.js';
import { nodeIdCodec, pathCodec } from './types.js';

const empty = struct({});

/** Events in one message. */
export const MAX_WATCH_EVENTS = 64;

export const watchEventCodec = struct({
  kind: oneOf('created', 'removed', 'renamed', 'written', 'truncated', 'attributes'),
  /** From the cluster's root; of a node with several names, its first. */
  path: pathCodec,
  /** `renamed`: the new path. */
  to: optional(pathCodec),
  id: nodeIdCodec,
  directory: bool,
  timeSec: int,
  timeNsec: u32,
  /** The host whose client did it; absent when the master did by itself. */
  host: optional(text(255)),
});
export type WatchEvent = ValueOf<typeof watchEventCodec>;

/** Tells of changes of this node and below it, from now on, over this connection. @throws STALE_NODE, ACCESS_DENIED, OVERLOADED */
export const Watch = method(164, 'watch', struct({ id: nodeIdCodec }), struct({ watch: u53 }));

/** From the master to the client: what happened, in order. Then `lost` more happened that nobody remembers. */
export const WatchEvents = method(
  165,
  'watchEvents',
  struct({ watch: u53, events: list(watchEventCodec, MAX_WATCH_EVENTS), lost: u53 }),
  empty,
);

export const Unwatch = method(166, 'unwatch', struct({ watch: u53 }), empty);
