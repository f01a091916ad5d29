/** Shadows in a simulated world, each on a host of its own. */
import { digestState } from '../../master/dump.js';
import type { ShadowOptions } from '../../master/options.js';
import { Shadow } from '../../master/shadow.js';
import * as m from '../../protocol/messages/index.js';
import { BufferPool } from '../../protocol/payload.js';
import { Peer } from '../../protocol/peer.js';
import { type CallOptions, type Method, type Role, Service } from '../../protocol/rpc.js';
import type { FakeProcess } from '../fakes/host.js';
import type { SimulatedWorld } from '../fakes/index.js';
import { MASTER_PORT, type MasterHost, masterOptions } from './support.js';

export const SHADOW_PORT = 5001;

export class ShadowHost {
  readonly world: SimulatedWorld;
  readonly name: string;
  readonly options: ShadowOptions;
  process!: FakeProcess;
  shadow!: Shadow;

  constructor(world: SimulatedWorld, name: string, changes: Partial<ShadowOptions> = {}) {
    this.world = world;
    this.name = name;
    this.options = {
      ...masterOptions({ dataDirectory: '/shadow', host: name, port: SHADOW_PORT }),
      masters: [{ host: 'master', port: MASTER_PORT }],
      ...changes,
    };
  }

  async start(): Promise<this> {
    this.process = this.world.host(this.name).start(this.name);
    this.shadow = new Shadow(this.process.environment, this.options);
    await this.world.until(this.shadow.start());
    return this;
  }

  async restart(): Promise<void> {
    this.process.crash();
    await this.start();
  }

  get digest(): string | undefined {
    return this.shadow.state && digestState(this.shadow.state);
  }

  /** One question, as a client asks. */
  ask<Q, R>(method: Method<Q, R>, body: Q): Promise<R> {
    return askAt(this.world, this.name, SHADOW_PORT, method, body);
  }
}

/** A connection of its own to any port, as anybody. */
export async function dial(
  world: SimulatedWorld,
  process: FakeProcess,
  host: string,
  port: number,
  role: Role = 'client',
  service = new Service(),
): Promise<Peer> {
  const { environment } = process;
  const { clock, timers, logger } = environment;
  const socket = await world.until(environment.network.connect(host, port, 5_000));
  return new Peer(socket, {
    role,
    id: process.name,
    clusterId: () => '',
    term: () => 0,
    service,
    pool: new BufferPool(),
    clock,
    timers,
    logger,
  });
}

let asked = 0;

export async function askAt<Q, R>(
  world: SimulatedWorld,
  host: string,
  port: number,
  method: Method<Q, R>,
  body: Q,
  options: CallOptions = {},
): Promise<R> {
  const peer = await dial(world, world.process(`asker${asked++}`), host, port);
  try {
    return (await world.until(peer.call(method, body, options))).body;
  } finally {
    peer.close();
  }
}

/** Runs the world until it is so. @throws after 60 s of its time */
export async function soon(world: SimulatedWorld, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = world.scheduler.nowMs + 60_000;
  while (!(await isSo())) {
    if (world.scheduler.nowMs > endMs) throw new Error('it did not come to be so');
    await world.runFor(10);
  }
}

export function status(world: SimulatedWorld, host = 'master', port = MASTER_PORT): Promise<m.LogStatus> {
  return askAt(world, host, port, m.GetLogStatus, {});
}

/** Until the master waits for this many shadows, and all are in step. */
export async function inStep(
  world: SimulatedWorld,
  count: number,
  host = 'master',
  port = MASTER_PORT,
): Promise<void> {
  await soon(world, async () => {
    const { replicas, writable } = await status(world, host, port).catch(() => ({
      replicas: [],
      writable: false,
    }));
    return (
      writable && replicas.filter(({ state, counted }) => counted && state === 'in step').length === count
    );
  });
}

/** Whether a shadow says what the master says. */
export function agrees(master: MasterHost, shadow: ShadowHost): boolean {
  return shadow.digest === digestState(master.master.state);
}
