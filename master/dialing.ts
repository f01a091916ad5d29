/** One question to another copy of the log, over a connection of its own. */
import type { Environment } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { GetLogStatus, type LogStatus, type Member } from '../protocol/messages/index.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import { type Method, type Role, Service } from '../protocol/rpc.js';

const DIAL_TIMEOUT_MS = 1_000;

/** On whose behalf somebody is asked. */
export interface Asker {
  readonly role: Role;
  readonly id: string;
  readonly clusterId: string;
  readonly term: number;
}

/** @throws UNREACHABLE, WRONG_CLUSTER, DEADLINE_EXCEEDED, …, and what the other side answers */
export async function ask<Request, Reply>(
  { network, clock, timers, logger }: Environment,
  asker: Asker,
  address: { readonly host: string; readonly port: number },
  method: Method<Request, Reply>,
  body: Request,
): Promise<Reply> {
  const socket = await network
    .connect(address.host, address.port, DIAL_TIMEOUT_MS)
    .catch((cause: unknown) => {
      throw new GfsError('UNREACHABLE', `${address.host}:${address.port}: ${(cause as Error).message}`, {
        cause,
      });
    });
  const peer = new Peer(socket, {
    role: asker.role,
    id: asker.id,
    clusterId: () => asker.clusterId,
    term: () => asker.term,
    service: new Service(),
    pool: new BufferPool(),
    clock,
    timers,
    logger,
  });
  try {
    return (await peer.call(method, body, { deadlineMs: DIAL_TIMEOUT_MS })).body;
  } finally {
    peer.close();
  }
}

/** Where each of the members stands: those that answer within a second, and are who they should be. */
export async function askAllStatus(
  environment: Environment,
  asker: Asker,
  members: Iterable<Member>,
): Promise<Map<string, LogStatus>> {
  const found = new Map<string, LogStatus>();
  const askOne = async (member: Member): Promise<void> => {
    const status = await ask(environment, asker, member, GetLogStatus, {}).catch(() => undefined);
    if (status?.member.id === member.id) found.set(member.id, status);
  };
  await Promise.all([...members].map(askOne));
  return found;
}
