/** A master in a simulated world, and clients that speak its protocol directly. */
import type { Environment } from '../../environment/ports/index.js';
import { Master } from '../../master/master.js';
import { type MasterOptions, masterDefaults } from '../../master/options.js';
import type { LoggedState } from '../../master/state.js';
import { encodeState, StateDecoder } from '../../master/state-image.js';
import { type ErrorCode, GfsError } from '../../protocol/errors.js';
import * as m from '../../protocol/messages/index.js';
import { BufferPool } from '../../protocol/payload.js';
import { Peer } from '../../protocol/peer.js';
import { type CallOptions, type Method, type Role, Service } from '../../protocol/rpc.js';
import type { FakeProcess } from '../fakes/host.js';
import type { SimulatedWorld } from '../fakes/index.js';

export const MASTER_PORT = 5000;
export const CHUNK_BYTES = 1024 * 1024;

export function masterOptions(changes: Partial<MasterOptions> = {}): MasterOptions {
  return {
    ...masterDefaults,
    dataDirectory: '/master',
    host: 'master',
    port: MASTER_PORT,
    chunkBytes: CHUNK_BYTES,
    logReserveBytes: 16 * 1024,
    ...changes,
  };
}

/** One master on the host `master`, which can be killed and started again. */
export class MasterHost {
  readonly world: SimulatedWorld;
  readonly options: MasterOptions;
  process!: FakeProcess;
  master!: Master;

  constructor(world: SimulatedWorld, changes: Partial<MasterOptions> = {}) {
    this.world = world;
    this.options = masterOptions(changes);
  }

  async start(host = 'master'): Promise<this> {
    this.process = this.world.host(host).start('master');
    this.master = new Master(this.process.environment, this.options);
    await this.world.until(this.master.start());
    return this;
  }

  /** kill -9, and a new process on the same disk. */
  async restart(): Promise<void> {
    this.process.crash();
    await this.start();
  }

  /** A power failure: what was not flushed may be gone. */
  async powerCycle(): Promise<void> {
    this.world.host('master').crash();
    this.world.host('master').boot();
    await this.start();
  }
}

export async function connect(
  world: SimulatedWorld,
  environment: Environment,
  role: Role,
  id: string,
  service = new Service(),
  clusterId = '',
): Promise<Peer> {
  return world.until(open(environment, role, id, service, clusterId));
}

/** As {@link connect}, in a world that somebody else runs. */
async function open(
  environment: Environment,
  role: Role,
  id: string,
  service: Service,
  clusterId = '',
): Promise<Peer> {
  const socket = await environment.network.connect('master', MASTER_PORT, 5_000);
  const peer = new Peer(socket, {
    role,
    id,
    clusterId: () => clusterId,
    term: () => 0,
    service,
    pool: new BufferPool(),
    clock: environment.clock,
    timers: environment.timers,
    logger: environment.logger,
  });
  await peer.ready();
  return peer;
}

/** A client with a session: sequences counted, renewals sent. */
export class TestClient {
  readonly world: SimulatedWorld;
  readonly name: string;
  readonly process: FakeProcess;
  peer!: Peer;
  session = 0;
  sequence = 0;
  uid = 0;
  gids: number[] = [0];

  constructor(world: SimulatedWorld, name: string) {
    this.world = world;
    this.name = name;
    this.process = world.process(name);
  }

  static async start(world: SimulatedWorld, name = 'client'): Promise<TestClient> {
    const client = new TestClient(world, name);
    await client.register();
    client.process.environment.timers.every(500, () => {
      if (!client.peer.closed) client.send(m.Renew, { opened: [], closed: [] }).catch(() => undefined);
    });
    return client;
  }

  async register(resume?: number): Promise<void> {
    this.peer = await connect(this.world, this.process.environment, 'client', this.name);
    const body = { clientId: this.name, hostname: this.name, ...(resume === undefined ? {} : { resume }) };
    this.session = (await this.call(m.RegisterClient, body)).session;
  }

  /** Takes its session up again, in a world that somebody else runs. */
  async reconnect(): Promise<void> {
    this.peer = await open(this.process.environment, 'client', this.name, new Service());
    await this.send(m.RegisterClient, { clientId: this.name, hostname: this.name, resume: this.session });
  }

  /** Sends without running the world. */
  async send<Q, R>(method: Method<Q, R>, body: Q, options: CallOptions = {}): Promise<R> {
    const header = { session: this.session, uid: this.uid, gids: this.gids };
    return (await this.peer.call(method, body, { ...header, ...options })).body;
  }

  /** A call, with the world run until it is answered. */
  call<Q, R>(method: Method<Q, R>, body: Q, options: CallOptions = {}): Promise<R> {
    return this.world.until(this.send(method, body, options));
  }

  /** A mutation under the next sequence. */
  mutate<Q, R>(method: Method<Q, R>, body: Q, options: CallOptions = {}): Promise<R> {
    return this.call(method, body, { sequence: ++this.sequence, ...options });
  }

  async mkdir(parent: number, name: string): Promise<number> {
    return (await this.make(parent, name, 0o040755)).id;
  }

  async create(parent: number, name: string): Promise<number> {
    return (await this.make(parent, name, 0o100644)).id;
  }

  async make(parent: number, name: string, mode: number): Promise<m.Attributes> {
    return (await this.mutate(m.Create, { parent, name, mode, rdev: 0, exclusive: true })).attributes;
  }

  async lookup(path: string): Promise<m.Attributes> {
    return (await this.call(m.LookupPath, { path })).attributes;
  }

  unlink(parent: number, name: string): Promise<{ id: number }> {
    return this.mutate(m.Unlink, { parent, name, directory: false });
  }

  rmdir(parent: number, name: string): Promise<{ id: number }> {
    return this.mutate(m.Unlink, { parent, name, directory: true });
  }

  rename(
    parent: number,
    name: string,
    newParent: number,
    newName: string,
    mode: 'replace' | 'noreplace' | 'exchange' = 'replace',
  ): Promise<object> {
    return this.mutate(m.Rename, { parent, name, newParent, newName, mode });
  }

  async names(id: number): Promise<string[]> {
    const out: string[] = [];
    for (let cookie = 0; ; ) {
      const page = await this.call(m.ReadDirectory, { id, cookie, limit: 100 });
      out.push(...page.entries.map(({ name }) => name));
      if (page.end) return out;
      cookie = (page.entries.at(-1) as m.DirectoryEntry).cookie;
    }
  }
}

/** What becomes of a state that is written and read again. */
export function throughImage(state: LoggedState): LoggedState {
  const decoder = new StateDecoder(state.chunkBytes, 99);
  for (const { tag, body } of encodeState(state)) decoder.add(tag, Buffer.concat(body));
  return decoder.finish();
}

/** The code that a promise fails with; 'none' when it does not. */
export async function codeOf(promise: Promise<unknown>): Promise<ErrorCode | 'none'> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    if (error instanceof GfsError) return error.code;
    throw error;
  }
}
