/** Who is near to whom, and which chunkservers a client is sent to first. */
import { method } from '../rpc.js';
import { list, optional, real, struct, text, u53, type ValueOf } from '../schema.js';
import { locationCodec } from './types.js';

export const MAX_PRIORITY_CLIENTS = 256;

const clientPriorities = struct({
  clientId: text(64),
  hostname: text(255),
  location: optional(locationCodec),
  rack: optional(text(64)),
  /** All active servers, best first. */
  servers: list(
    struct({
      serverId: text(64),
      distance: real,
      availableBytes: u53,
      usedShare: real,
      /** distanceWeight × (distance ÷ the farthest active server's) + spaceWeight × usedShare. */
      score: real,
    }),
    4096,
  ),
});
export type ClientPriorities = ValueOf<typeof clientPriorities>;

/**
 * The connected clients, up to {@link MAX_PRIORITY_CLIENTS}, or those whose id or host is `client`; with
 * other weights than the configured ones, where they are given. @throws INVALID: a weight below 0
 */
export const GetPriorities = method(
  126,
  'getPriorities',
  struct({ client: optional(text(255)), distanceWeight: optional(real), spaceWeight: optional(real) }),
  struct({
    distanceWeight: real,
    spaceWeight: real,
    clients: list(clientPriorities, MAX_PRIORITY_CLIENTS),
  }),
);
