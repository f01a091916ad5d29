/** One question to the master, without a session. */
import { NodeClock } from '../environment/node/clock.js';
import { NodeNetwork } from '../environment/node/network.js';
import { NodeRandom } from '../environment/node/random.js';
import { NodeTimers } from '../environment/node/timers.js';
import type { Logger } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { type ClusterStatus, GetLogStatus, GetStatus, type LogStatus } from '../protocol/messages/index.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import { type Method, Service } from '../protocol/rpc.js';
import { type HostPort, showHostPort } from './config/values.js';
import { codeOf, Failure } from './failure.js';
import { duration } from './output.js';
import { reasonOf } from './reasons.js';

const CONNECT_TIMEOUT_MS = 3000;
const ANSWER_TIMEOUT_MS = 10_000;

/** What goes wrong is thrown; nobody reads the log of a command. */
const silent: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silent,
};

export interface MasterStatus extends ClusterStatus {
  /** Where it was reached. */
  readonly master: string;
}

/** Asks the first master that answers. @throws Failure */
export async function queryStatus(masters: readonly HostPort[]): Promise<MasterStatus> {
  return queryMaster(masters, async (peer, at) => ({
    ...(await peer.call(GetStatus, {}, { deadlineMs: ANSWER_TIMEOUT_MS })).body,
    master: showHostPort(at),
  }));
}

/** Where the log of the first master that answers stands. @throws Failure */
export function queryLog(masters: readonly HostPort[]): Promise<LogStatus & { readonly master: string }> {
  return queryMaster(masters, async (peer, at) => ({
    ...(await peer.call(GetLogStatus, {}, { deadlineMs: ANSWER_TIMEOUT_MS })).body,
    master: showHostPort(at),
  }));
}

/** Has the first master that answers do something. @throws Failure when none does, else what `ask` throws */
export async function queryMaster<T>(
  masters: readonly HostPort[],
  ask: (peer: Peer, at: HostPort) => Promise<T>,
): Promise<T> {
  const failures: string[] = [];
  for (const master of masters) {
    let peer: Peer | undefined;
    try {
      peer = await connectTo(master);
      if ((await peer.ready()).role !== 'master') throw new Failure(await describeOther(peer, master));
    } catch (error) {
      peer?.close();
      failures.push(`${showHostPort(master)}: ${reasonOf(error)}`);
      continue;
    }
    try {
      return await ask(peer, master);
    } finally {
      peer.close();
    }
  }
  throw new Failure(
    `no master answers: ${failures.join('; ')}`,
    'Is it running (gfs up, gfs master)? Another address: gfs status HOST:PORT',
  );
}

/** One question to whoever is there. @throws Failure when nobody is; what the answer is, when it is an error */
export async function queryAt<Request, Reply>(
  at: HostPort,
  method: Method<Request, Reply>,
  body: Request,
): Promise<Reply> {
  let peer: Peer;
  try {
    peer = await connectTo(at);
    await peer.ready();
  } catch (error) {
    throw new Failure(`${showHostPort(at)}: ${reasonOf(error)}`);
  }
  try {
    const options = { deadlineMs: ANSWER_TIMEOUT_MS, uid: process.getuid?.() ?? 0 };
    return (await peer.call(method, body, options)).body;
  } finally {
    peer.close();
  }
}

/** Whether a daemon may run there without our being able to tell: it neither answers nor is its port closed. */
export async function isSilent(at: HostPort): Promise<boolean> {
  let peer: Peer | undefined;
  try {
    peer = await connectTo(at);
    await peer.ready();
    return false;
  } catch (error) {
    return codeOf(error) !== 'ECONNREFUSED';
  } finally {
    peer?.close();
  }
}

type Ask = <Request, Reply>(method: Method<Request, Reply>, body: Request) => Promise<Reply>;

/** Talks to the first daemon, a master or a chunkserver, that answers, in the name of who runs this command. @throws Failure */
export async function askDaemon(
  daemons: readonly HostPort[],
  work: (ask: Ask) => Promise<void>,
): Promise<void> {
  const failures: string[] = [];
  for (const daemon of daemons) {
    let peer: Peer;
    try {
      peer = await connectTo(daemon);
      await peer.ready();
    } catch (error) {
      failures.push(`${showHostPort(daemon)}: ${reasonOf(error)}`);
      continue;
    }
    try {
      await work(
        async (method, body) =>
          (await peer.call(method, body, { deadlineMs: ANSWER_TIMEOUT_MS, uid: process.getuid?.() ?? 0 }))
            .body,
      );
    } catch (error) {
      if (!(error instanceof GfsError)) throw error;
      throw new Failure(`${showHostPort(daemon)}: ${reasonOf(error)}`);
    } finally {
      peer.close();
    }
    return;
  }
  throw new Failure(`nobody answers: ${failures.join('; ')}`, 'Where the daemons are: gfs ls-servers');
}

async function connectTo({ host, port }: HostPort): Promise<Peer> {
  const network = new NodeNetwork(silent);
  const socket = await network.connect(host, port, CONNECT_TIMEOUT_MS);
  return new Peer(socket, {
    role: 'client',
    id: new NodeRandom().hex(16),
    clusterId: () => '',
    term: () => 0,
    service: new Service(),
    pool: new BufferPool(),
    clock: new NodeClock(),
    timers: new NodeTimers(),
    logger: silent,
  });
}

/** Who is there in place of a master; of a shadow, what can be done with it. */
async function describeOther(peer: Peer, at: HostPort): Promise<string> {
  const { role } = await peer.ready();
  if (role !== 'shadow') return `a ${role} is there, not a master`;
  const { body } = await peer.call(GetLogStatus, {}, { deadlineMs: ANSWER_TIMEOUT_MS });
  const { standsIn, silentMs, behindMs, promisedTo } = body;
  if (!standsIn) {
    const master = promisedTo === undefined ? '' : ` of the master at ${showHostPort(promisedTo)}`;
    return `a shadow${master} is there, ${behindMs} ms behind`;
  }
  return `a shadow is there, which has not heard of the master for ${duration(silentMs)} and answers reads; \`gfs promote ${showHostPort(at)}\` makes it the master`;
}
