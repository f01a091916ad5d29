/** What the master answers: the methods of protocol/messages, each handed to the part that does it. */
import { GfsError } from '../protocol/errors.js';
import * as m from '../protocol/messages/index.js';
import { type IncomingRequest, type Method, type Outcome, Service } from '../protocol/rpc.js';
import { InvariantError } from './assert.js';
import { registerCheckpoints } from './checkpoint-service.js';
import { registerInspection } from './inspection.js';
import type { Plan } from './mutations.js';
import type { MasterParts } from './parts.js';
import type { NamespaceReads } from './promised-reads.js';
import type { Reads } from './reads.js';
import { registerReplication } from './replication-service.js';
import { registerTrash } from './trash-service.js';
import type { Watch } from './watch.js';

/** Registers a handler that answers with a body alone; a broken invariant in it ends the process. */
export class MasterService extends Service {
  /** Counts and times what is answered. */
  watch: Watch | undefined;
  readonly #onFatal: (error: unknown) => void;

  constructor(onFatal: (error: unknown) => void) {
    super();
    this.#onFatal = onFatal;
  }

  answer<Request, Reply>(
    method: Method<Request, Reply>,
    handle: (body: Request, request: IncomingRequest) => Promise<Reply> | Reply,
  ): this {
    return this.on(method, async (body, request): Promise<Outcome<Reply>> => {
      const { watch } = this;
      const isMutation = request.header.sequence !== 0;
      const arrivedAtMs = watch?.arrived(isMutation) ?? 0;
      let failed = true;
      try {
        const handled = handle(body, request);
        const reply = handled instanceof Promise ? await handled : handled;
        failed = false;
        return { body: reply };
      } catch (error) {
        if (error instanceof InvariantError) this.#onFatal(error);
        throw error;
      } finally {
        request.payload?.release();
        watch?.answered(method.name, isMutation, arrivedAtMs, failed);
      }
    });
  }
}

export function registerHandlers(service: MasterService, parts: MasterParts): void {
  registerFileLocks(service, parts);
  registerWatches(service, parts);
  registerSessions(service, parts);
  registerReads(service, parts);
  registerMutations(service, parts);
  registerChunks(service, parts);
  registerChunkservers(service, parts);
  registerTrash(service, parts);
  registerReplication(service, parts);
  registerInspection(service, parts);
  registerLog(service, parts);
  registerCheckpoints(service, parts);
}

function registerLog(service: MasterService, parts: MasterParts): void {
  const { logReplicas } = parts;
  service
    .on(m.FollowLog, (body, request) => logReplicas.follow(body, request))
    .on(m.ReadCheckpoint, (body) => logReplicas.feed.readCheckpoint(body))
    .answer(m.GetLogStatus, () => logReplicas.logStatus())
    .answer(m.GetShadows, () => ({ shadows: logReplicas.members }))
    .answer(m.RemoveLogReplica, async ({ id }, { header }) => {
      if (header.uid !== 0) throw new GfsError('NOT_PERMITTED', 'only root removes shadows');
      await logReplicas.remove(id);
      return {};
    });
}

function registerSessions(
  service: MasterService,
  { clock, sessions, chunkservers, superblock, options }: MasterParts,
): void {
  const masterTime = () => {
    const { sec, nsec } = clock.wallTime();
    return { timeSec: sec, timeNsec: nsec };
  };
  service
    .answer(m.RegisterClient, async (body, request) => {
      const { session, locksLost } = await sessions.register(body, request.peer);
      const { clientId: id, hostname, location, rack } = body;
      request.peer.onceClosed(chunkservers.graph.addNode({ id, type: 'client', location, hostname, rack }));
      return {
        session,
        locksLost,
        clusterId: superblock.clusterId,
        chunkBytes: superblock.chunkBytes,
        term: superblock.term,
        renewIntervalMs: options.renewIntervalMs,
        timeoutMs: options.sessionTimeoutMs,
        ...masterTime(),
      };
    })
    .answer(m.Renew, (body, request) => {
      sessions.renew(body, request);
      return masterTime();
    })
    .answer(m.EndSession, async (_, request) => {
      await sessions.end(request);
      return {};
    });
}

function registerWatches(service: MasterService, { sessions, watchers }: MasterParts): void {
  service
    .answer(m.Watch, ({ id }, request) => {
      sessions.requireCaller(request);
      return { watch: watchers.add(id, request.header, request.peer) };
    })
    .answer(m.Unwatch, ({ watch }, request) => {
      watchers.remove(watch, request.peer);
      return {};
    });
}

function registerFileLocks(service: MasterService, { sessions, fileLocks }: MasterParts): void {
  service
    .answer(m.SetLock, async ({ id, lock, wait }, request) => {
      sessions.requireCaller(request);
      await sessions.locksKnown();
      await fileLocks.set(request.header.session, id, lock, wait, () => request.signal);
      return {};
    })
    .answer(m.GetLock, async ({ id, lock }, request) => {
      sessions.requireCaller(request);
      await sessions.locksKnown();
      const found = fileLocks.blocking(request.header.session, id, lock);
      return found === undefined ? {} : { lock: found };
    });
}

export function registerReads(
  service: MasterService,
  { reads, promisedReads }: { readonly reads: Reads; readonly promisedReads: NamespaceReads },
): void {
  service
    .answer(m.Lookup, (body, request) => promisedReads.lookup(body, request))
    .answer(m.LookupPath, (body) => ({ attributes: reads.lookupPath(body.path) }))
    .answer(m.GetAttributes, (body, request) => promisedReads.attributes(body.id, request))
    .answer(m.ReadDirectory, (body, request) => promisedReads.readDirectory(body, request))
    .answer(m.ReadTree, (body, request) => promisedReads.readTree(body, request))
    .answer(m.GetPath, (body) => ({ path: reads.path(body.id) }))
    .answer(m.ReadLink, (body) => ({ target: reads.readLink(body.id) }))
    .answer(m.GetXattr, async (body, request) => ({
      value: await reads.xattr(body.id, body.name, () => request.signal),
    }))
    .answer(m.ListXattrs, async (body, request) => ({
      names: await reads.xattrNames(body.id, () => request.signal),
    }));
}

function registerMutations(service: MasterService, parts: MasterParts): void {
  const {
    namespace,
    accessTimes,
    nodes,
    cutting,
    sharing,
    sessions,
    mutations,
    trash,
    coherence,
    creation,
    journal,
    appenders,
  } = parts;
  /** A mutation that is one plan: done once per sequence. */
  const mutation = <Request, Reply>(
    method: Method<Request, Reply>,
    plan: (body: Request, request: IncomingRequest) => Plan<Reply>,
  ): void => {
    service.answer(method, (body, request) =>
      sessions.once(method, request, (origin) =>
        mutations.run(plan(body, request), origin, () => request.signal),
      ),
    );
  };
  service.answer(m.NoteAccess, ({ items }, request) =>
    sessions.once(m.NoteAccess, request, async (origin) => {
      const newer = accessTimes.newer(items);
      return newer.length === 0 ? {} : journal.commit({ type: 'accessed', items: newer }, origin);
    }),
  );
  mutation(m.Symlink, (body, { header }) => namespace.symlink(body, header));
  mutation(m.Link, (body) => namespace.link(body));
  mutation(m.Unlink, (body) => namespace.unlink(body));
  mutation(m.Rename, (body) => namespace.rename(body));
  mutation(m.SetXattr, (body) => nodes.setXattr(body));
  mutation(m.RemoveXattr, (body) => nodes.removeXattr(body));
  mutation(m.Undelete, (body, { header }) => trash.undelete(body, header));
  mutation(m.Purge, (body, { header }) => trash.purge(body, header));
  mutation(m.SetRetention, (body) => trash.setRetention(body));
  service
    .answer(m.Create, async (body, request) => {
      const { session } = request.header;
      const reply = await sessions.once(m.Create, request, (origin) =>
        creation.create(body, request, origin, sessions.placeOf(session).location),
      );
      if (reply.lease !== undefined) appenders.noteCreated(session, reply.attributes.id);
      return reply;
    })
    .answer(m.CreateTmpfile, async (body, request) => {
      const { session } = request.header;
      const reply = await sessions.once(m.CreateTmpfile, request, (origin) =>
        creation.createTmpfile(body, request, origin, sessions.placeOf(session).location),
      );
      if (reply.lease !== undefined) appenders.noteCreated(session, reply.attributes.id);
      return reply;
    })
    .answer(m.ExtendFile, async (body, request) => {
      appenders.noteTells(request.header.session, body.id);
      const reply = await sessions.once(m.ExtendFile, request, (origin) =>
        mutations.run(nodes.extend(body), origin, () => request.signal),
      );
      if (body.defer !== true) return reply;
      const { session } = request.header;
      const deferred = coherence.late.defer(session, body.id);
      return { ...reply, deferred, alone: deferred && appenders.isAlone(session, body.id) };
    })
    // What others have appended and not told yet is in the file before it is cut, copied or shared.
    .answer(m.SetAttributes, async (body, request) => {
      if (body.changes.size !== undefined) await coherence.late.reported([body.id], request.header.session);
      return sessions.once(m.SetAttributes, request, (origin) =>
        cutting.setAttributes(body, request.header, origin, () => request.signal),
      );
    })
    .answer(m.Snapshot, async (body, request) => {
      await coherence.late.allReported(request.header.session);
      return sessions.once(m.Snapshot, request, (origin) =>
        cutting.snapshot(body, origin, () => request.signal),
      );
    })
    .answer(m.ShareChunks, async (body, request) => {
      await coherence.late.reported([body.source, body.id], request.header.session);
      return sessions.once(m.ShareChunks, request, (origin) =>
        sharing.share(body, origin, () => request.signal),
      );
    })
    .answer(m.PunchHole, (body, request) =>
      sessions.once(m.PunchHole, request, (origin) => sharing.punch(body, origin, () => request.signal)),
    );
}

function registerChunks(
  service: MasterService,
  { promisedReads, grants, sessions, chunkservers, status, gate, coherence, appenders }: MasterParts,
): void {
  const near = (request: IncomingRequest): m.Location | undefined =>
    sessions.placeOf(request.header.session).location;
  service
    .answer(m.GetChunks, (body, request) => promisedReads.chunks(body, request, near(request)))
    .answer(m.GetFirstChunks, (body, request) => promisedReads.firstChunks(body, request, near(request)))
    // Not under a sequence: asking again gives the same lease, or a newer one, which is as good.
    .answer(m.GetLease, async (body, request) => {
      gate.check();
      const grant = () => gate.answer(grants.lease(body, near(request)));
      const { session } = request.header;
      // A primary asks on behalf of an append over its chunk's end. Its client has a lease already, and may be the
      // one that would be asked for its lengths: it could not tell them before that append is over.
      const lease =
        request.from.role === 'chunkserver'
          ? await grant()
          : await appenders.leasing(session, body.id, async () => {
              // Whoever appends alone is asked for what it holds back, and is not alone again meanwhile.
              await coherence.late.aheadSent(body.id, session);
              return grant();
            });
      return { lease: chunkservers.graph.chained(lease, near(request)) };
    })
    .answer(m.ReportCorrupt, (body) => {
      const chunkserver = chunkservers.byId(body.serverId);
      if (chunkserver !== undefined) chunkservers.reports.onCorrupt(chunkserver, body.handle);
      return {};
    })
    .answer(m.StatCluster, () => status.statCluster())
    .answer(m.GetStatus, () => status.status());
}

function registerChunkservers(
  service: MasterService,
  { chunkservers, grants, superblock, options, watch }: MasterParts,
): void {
  service
    .answer(m.RegisterChunkserver, async (body, request) => {
      const { clusterId, chunkBytes, term } = superblock;
      if (request.from.role !== 'chunkserver')
        throw new GfsError('NOT_PERMITTED', `a ${request.from.role} registers`);
      if (request.from.clusterId !== '' && request.from.clusterId !== clusterId)
        throw new GfsError('WRONG_CLUSTER');
      const { session } = await chunkservers.register(body, request.peer);
      return {
        session,
        clusterId,
        chunkBytes,
        term,
        renewIntervalMs: options.renewIntervalMs,
        timeoutMs: options.sessionTimeoutMs,
        heartbeatIntervalMs: options.heartbeatIntervalMs,
      };
    })
    .answer(m.ReportChunks, async (body, request) => {
      await chunkservers.report(chunkservers.require(request), body);
      return {};
    })
    .answer(m.RenewChunkserver, (_, request) => {
      chunkservers.require(request);
      return {};
    })
    .answer(m.Heartbeat, (body, request) => {
      const chunkserver = chunkservers.require(request);
      watch.noteHeartbeat(chunkserver);
      return chunkservers.heartbeat(chunkserver, body);
    })
    .answer(m.DropSecondary, (body, request) => grants.dropSecondary(body, chunkservers.require(request)))
    .answer(m.ReportDamage, (body, request) => {
      chunkservers.reports.onDamage(chunkservers.require(request), body.handle, body.version);
      return {};
    });
}
