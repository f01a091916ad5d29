/** What a shadow answers: reads, as the master would; chunkservers; and what is about the log itself. */
import type { Environment } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import * as m from '../protocol/messages/index.js';
import type { IncomingRequest, Method, Service } from '../protocol/rpc.js';
import type { Following } from './following.js';
import { ClientServerPriority, LocationGraph } from './location-graph.js';
import { Locations } from './locations.js';
import { LockManager } from './locks.js';
import type { LogCopy } from './log-copy.js';
import { LogGate } from './log-gate.js';
import type { ShadowOptions } from './options.js';
import type { NamespaceReads } from './promised-reads.js';
import { Reads } from './reads.js';
import { MasterService, registerReads } from './service.js';
import type { ShadowServers } from './shadow-servers.js';
import type { StandIn } from './stand-in.js';
import type { SuperblockKeeper } from './superblock.js';

/** What is told while the master is there is no older than this (paper §5.1.3: fractions of a second). */
const MAX_BEHIND_MS = 1_000;

export interface ShadowServiceParts {
  readonly environment: Environment;
  readonly options: ShadowOptions;
  readonly superblock: SuperblockKeeper;
  readonly copy: LogCopy;
  readonly servers: ShadowServers;
  readonly following: () => Following;
  readonly standIn: StandIn;
  readonly self: () => m.Member;
  readonly promote: () => Promise<number>;
  readonly onFatal: (error: unknown) => void;
}

/** Registers what is answered only while it is certain to be no older than it may be. */
class FreshReads extends MasterService {
  readonly #check: () => void;

  constructor(onFatal: (error: unknown) => void, check: () => void) {
    super(onFatal);
    this.#check = check;
  }

  override answer<Request, Reply>(
    method: Method<Request, Reply>,
    handle: (body: Request, request: IncomingRequest) => Promise<Reply> | Reply,
  ): this {
    return super.answer(method, (body, request) => {
      this.#check();
      return handle(body, request);
    });
  }
}

export function registerShadow(service: Service, parts: ShadowServiceParts): void {
  const { onFatal, standIn, following } = parts;
  const fresh = new FreshReads(onFatal, () => {
    if (following().masterIsAway ? standIn.serves : following().behindMs <= MAX_BEHIND_MS) return;
    throw new GfsError('NOT_READY', 'this shadow may lack what was acknowledged');
  });
  registerFreshReads(fresh, parts);
  const always = new MasterService(onFatal);
  registerChunkservers(always, parts);
  registerLog(always, parts);
  for (const each of [fresh, always]) {
    for (const [number, handler] of each.handlers) service.handlers.set(number, handler);
  }
}

function registerFreshReads(
  service: MasterService,
  { copy, servers, options, environment }: ShadowServiceParts,
): void {
  const { state } = copy;
  const priority = new ClientServerPriority(new LocationGraph(() => servers.active), options);
  const locations = new Locations(state, servers.replicas, priority, (chunk) => servers.find(chunk));
  const reads = new Reads(state, new LockManager(), new LogGate());
  // Nobody is promised anything here: what is told may be cached for no time at all.
  const promisedReads: NamespaceReads = {
    lookup: async ({ parent, name }, request) => ({
      attributes: await reads.lookup(parent, name, () => request.signal),
    }),
    attributes: async (id, request) => ({ attributes: await reads.attributes(id, () => request.signal) }),
    readDirectory: async (body) => reads.readDirectory(body),
    readTree: () => ({ directories: [] }),
  };
  registerReads(service, { reads, promisedReads });
  service
    .answer(m.GetChunks, (body) => locations.chunks(body, undefined))
    .answer(m.StatCluster, () => {
      let totalBytes = 0;
      let availableBytes = 0;
      for (const { space } of servers.active) {
        totalBytes += space.totalBytes;
        availableBytes += space.availableBytes;
      }
      const files = state.fileCount + state.directoryCount;
      return { totalBytes, availableBytes, files, goal: options.goal };
    })
    .answer(m.ReportCorrupt, ({ handle, version, serverId }) => {
      environment.logger.warn({ handle, version, serverId }, 'a reader met a replica that does not verify');
      return {};
    });
}

function registerChunkservers(
  service: MasterService,
  { servers, superblock, options, standIn }: ShadowServiceParts,
): void {
  service
    .answer(m.RegisterChunkserver, (body, request) => {
      servers.register(body, request);
      const { clusterId, chunkBytes, term } = superblock.current;
      return {
        session: 0,
        clusterId,
        chunkBytes,
        term,
        renewIntervalMs: options.renewIntervalMs,
        timeoutMs: options.sessionTimeoutMs,
        heartbeatIntervalMs: options.heartbeatIntervalMs,
      };
    })
    .answer(m.ReportChunks, (body, request) => {
      servers.report(servers.heardOf(request), body);
      return {};
    })
    .answer(m.RenewAtShadow, (_, request) => {
      servers.heardOf(request);
      return { standsIn: standIn.serves, term: superblock.current.term };
    });
}

function registerLog(service: MasterService, parts: ShadowServiceParts): void {
  const { copy, superblock, self, following, standIn, promote } = parts;
  service
    .answer(m.PromiseTerm, async ({ term, candidate }, request) => {
      if (request.from.role !== 'master' && request.from.role !== 'shadow')
        throw new GfsError('NOT_PERMITTED', `a ${request.from.role} asks for a term`);
      const isKept = (now: { term: number; promisedTo?: m.Member | undefined }) =>
        now.term === term && now.promisedTo?.id === candidate.id;
      const changed = await superblock.update((now) =>
        (term > now.term && term !== superblock.standsFor) || isKept(now)
          ? { term, promisedTo: candidate }
          : undefined,
      );
      const { term: newest, promisedTo } = superblock.current;
      return {
        granted: changed && isKept(superblock.current),
        term: newest,
        ...(promisedTo === undefined ? {} : { promisedTo }),
        lastTerm: copy.lastTerm,
        lastSequence: copy.endSequence,
      };
    })
    .answer(m.GetLogStatus, (): m.LogStatus => {
      const { clusterId, term, promisedTo, id } = superblock.current;
      return {
        role: 'shadow',
        member: self(),
        clusterId,
        term,
        ...(promisedTo === undefined ? {} : { promisedTo }),
        lastTerm: copy.lastTerm,
        lastSequence: copy.endSequence,
        commit: copy.state.commitRule,
        writable: false,
        behindMs: Math.floor(following().behindMs),
        standsIn: standIn.serves,
        silentMs: Math.floor(following().silentMs),
        replicas: [...copy.state.logReplicas.values()].map((member) => ({
          member,
          state: member.id === id ? ('in step' as const) : ('missing' as const),
          counted: true,
          sequence: member.id === id ? copy.endSequence : 0,
          silentMs: 0,
        })),
      };
    })
    .answer(m.GetShadows, () => ({ shadows: [...copy.state.logReplicas.values()] }))
    .answer(m.Promote, async (_, { header }) => {
      if (header.uid !== 0) throw new GfsError('NOT_PERMITTED', 'only root promotes shadows');
      return { term: await promote() };
    });
}
