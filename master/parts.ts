/** The parts of a master, and how they fit together. */
import type { Clock, Environment, Random } from '../environment/ports/index.js';
import type { Member } from '../protocol/messages/index.js';
import { AccessTimes } from './access-times.js';
import { Allocator } from './allocator.js';
import { Appenders } from './appenders.js';
import type { Effects } from './apply.js';
import { NodeMutations } from './attributes.js';
import { Checkpointer } from './checkpointer.js';
import type { MakeCheckpoint } from './checkpointing.js';
import { ChunkPool } from './chunk-pool.js';
import { ChunkserverTable } from './chunkservers.js';
import { Coherence } from './coherence.js';
import { Creation } from './creation.js';
import { Cutting } from './cutting.js';
import { Drains } from './drains.js';
import { FileLocks } from './file-locks.js';
import { GarbageCollector } from './garbage.js';
import { Gatekeeper } from './gatekeeper.js';
import { Gauges } from './gauges.js';
import { GoalAudit } from './goal-audit.js';
import { Goals } from './goals.js';
import { Grants } from './grants.js';
import { Health } from './health.js';
import { Inspection } from './inspection.js';
import { Journal } from './journal.js';
import { Leases } from './leases.js';
import { Locations, makeReadable } from './locations.js';
import { LockManager } from './locks.js';
import { LogGate } from './log-gate.js';
import { LogReplicas } from './log-replicas.js';
import { Mutations } from './mutations.js';
import { Namespace } from './namespace.js';
import { OperationLog, type OperationLogOptions } from './operation-log.js';
import { DEFAULT_LOG_SEGMENT_BYTES, type MasterOptions } from './options.js';
import { OrphanScan } from './orphans.js';
import { PromisedReads } from './promised-reads.js';
import { Raiser } from './raising.js';
import { Reads } from './reads.js';
import { type LogIdentity, recover } from './recovery.js';
import { Replicas } from './replicas.js';
import { Replicator } from './replication/replicator.js';
import { SentVersions } from './sent-versions.js';
import { ClientSessions } from './sessions.js';
import { Settling } from './settling.js';
import { Sharing } from './sharing.js';
import type { LoggedState } from './state.js';
import { Status } from './status.js';
import { DataDirectoryError, openSuperblock, type Superblock, SuperblockKeeper } from './superblock.js';
import { ReplacedError, Tenure } from './tenure.js';
import { Trash } from './trash.js';
import { TreeChecker } from './tree-check.js';
import { Watch } from './watch.js';
import { Watchers } from './watchers.js';

/** What the handlers are made of. */
export interface MasterParts {
  readonly options: MasterOptions;
  readonly superblock: Superblock;
  readonly state: LoggedState;
  readonly clock: Clock;
  readonly log: OperationLog;
  readonly journal: Journal;
  readonly checkpointer: Checkpointer;
  /** Whether the log takes records, as far as its replicas go. */
  readonly gate: LogGate;
  readonly tenure: Tenure;
  readonly logReplicas: LogReplicas;
  readonly mutations: Mutations;
  readonly namespace: Namespace;
  readonly creation: Creation;
  readonly accessTimes: AccessTimes;
  readonly nodes: NodeMutations;
  readonly cutting: Cutting;
  readonly sharing: Sharing;
  readonly reads: Reads;
  readonly promisedReads: PromisedReads;
  readonly coherence: Coherence;
  readonly watchers: Watchers;
  readonly appenders: Appenders;
  readonly sessions: ClientSessions;
  readonly fileLocks: FileLocks;
  readonly chunkservers: ChunkserverTable;
  readonly leases: Leases;
  readonly pool: ChunkPool;
  readonly grants: Grants;
  readonly locations: Locations;
  readonly garbage: GarbageCollector;
  readonly trash: Trash;
  readonly orphans: OrphanScan;
  readonly replicator: Replicator;
  readonly health: Health;
  readonly watch: Watch;
  readonly inspection: Inspection;
  readonly trees: TreeChecker;
  readonly goals: Goals;
  readonly drains: Drains;
  readonly goalAudit: GoalAudit;
  readonly status: Status;
  readonly gauges: Gauges;
}

/** What the process around a master does for it. */
export interface Hooks {
  readonly onFatal: (error: unknown) => void;
  readonly makeCheckpoint: MakeCheckpoint;
  readonly onReplaced: (error: ReplacedError) => void;
  /** It has to begin a later term, as at a start. */
  readonly onOvertaken: () => void;
  /** Where this master listens, for its log replicas. */
  readonly self: (superblock: Superblock) => Member;
}

export function logOptionsOf(
  options: MasterOptions,
  superblock: Superblock,
  random: Random,
): OperationLogOptions & LogIdentity {
  const { clusterId, chunkBytes, term } = superblock;
  return {
    directory: `${options.dataDirectory}/log`,
    clusterId,
    chunkBytes,
    term,
    segmentBytes: options.logSegmentBytes ?? DEFAULT_LOG_SEGMENT_BYTES,
    ...(options.logReserveBytes === undefined ? {} : { reserveBytes: options.logReserveBytes }),
    hashSeed: random.below(2 ** 32),
    sync: options.logSync,
    syncIntervalMs: options.logSyncIntervalMs,
  };
}

/** Opens the data directory, replays the log, and puts the parts together. @throws what is wrong with the directory */
export async function assemble(
  environment: Environment,
  options: MasterOptions,
  { onFatal, makeCheckpoint, onReplaced, onOvertaken, self }: Hooks,
): Promise<MasterParts> {
  const { disk, random, logger, clock, timers, metrics } = environment;
  const { dataDirectory, chunkBytes } = options;
  const superblock = await openSuperblock(disk, random, dataDirectory, chunkBytes);
  if (superblock.role === 'shadow') {
    throw new DataDirectoryError(
      `${dataDirectory} is a shadow's copy of the log: gfs shadow runs on it, gfs promote makes it the master's`,
    );
  }
  if (superblock.replacedBy !== undefined) throw new ReplacedError(superblock.replacedBy, dataDirectory);
  const logOptions = logOptionsOf(options, superblock, random);
  const { state, position } = await recover(disk, logger, logOptions);
  const log = new OperationLog(environment, logOptions, position, onFatal);
  const checkpointer = new Checkpointer({
    log,
    identity: logOptions,
    checkpointBytes: options.checkpointBytes,
    checkpointSequence: position.checkpointSequence,
    make: makeCheckpoint,
    disk,
    clock,
    logger,
    metrics,
  });

  const replicas = new Replicas();
  const sent = new SentVersions(state);
  const effects: Effects = {
    chunkRemoved: (handle) => {
      leases.forget(handle);
      sent.forget(handle);
      replicas.removeChunk(handle);
    },
  };
  const coherence = new Coherence(state, environment, options);
  const watchers = new Watchers(state);
  const journal = new Journal(clock, log, state, effects, coherence, watchers);
  const gate = new LogGate();
  const member = () => self(superblock);
  const logParts = { environment, options, superblock, state, log, journal, gate, self: member };
  const keeper = new SuperblockKeeper(disk, dataDirectory, superblock);
  const tenure = new Tenure({ ...logParts, superblock: keeper, onReplaced, onOvertaken });
  const logReplicas = new LogReplicas({ ...logParts, tenure });
  log.replicate(logReplicas);
  const allocator = new Allocator(state, journal);
  const locks = new LockManager();
  const gates = new LockManager();
  const watch = new Watch(clock, metrics, options.heartbeatIntervalMs);
  const mutations = new Mutations(locks, journal, watch);
  const accessTimes = new AccessTimes(clock);
  const nodes = new NodeMutations(state, accessTimes);
  const fileLocks = new FileLocks();
  const sessions = new ClientSessions(
    state,
    journal,
    allocator,
    gate,
    environment,
    coherence,
    fileLocks,
    options.sessionTimeoutMs,
  );
  const chunkservers = new ChunkserverTable({
    state,
    journal,
    gate,
    allocator,
    replicas,
    sent,
    clock,
    timers,
    logger,
    options,
  });
  replicas.isEverybodyHere = () => chunkservers.isComplete;
  const leases = new Leases(state, journal, replicas, sent, clock, (serverId) => chunkservers.byId(serverId));
  chunkservers.attach(leases);
  const { reports } = chunkservers;
  const raiser = new Raiser(
    state,
    journal,
    replicas,
    leases,
    sent,
    reports,
    environment,
    options.leaseDurationMs,
  );
  const serverById = (serverId: string) => chunkservers.byId(serverId);
  const settling = new Settling(state, leases, raiser, replicas, serverById);
  const gatekeeper = new Gatekeeper(state, leases, settling, chunkservers, gates);
  const pool = new ChunkPool(state, allocator, chunkservers, environment, options);
  const drains = new Drains(state, journal, chunkservers);
  const replicator = new Replicator({
    drains,
    state,
    replicas,
    leases,
    raiser,
    sent,
    chunkservers,
    options,
    clock,
    timers,
    logger,
    metrics,
  });
  const health = new Health(state, replicas, chunkservers, timers);
  const goals = new Goals(state, chunkservers, options.goal);
  const chunkParts = {
    goals,
    state,
    mutations,
    allocator,
    chunkservers,
    replicas,
    leases,
    raiser,
    pool,
    gates,
  };
  const garbage = new GarbageCollector(state, journal, locks, sessions, chunkservers, environment, options);
  sessions.onClosed((id) => garbage.closed(id));
  const namespace = new Namespace(state, allocator, options.parentLock);
  const grants = new Grants({ ...chunkParts, clock, logger, options });
  const reads = new Reads(state, locks, gate);
  const locations = new Locations(
    state,
    replicas,
    chunkservers.priority,
    (chunk) => makeReadable(chunk, { replicas, chunkservers, raiser, logger }),
    (handle) => replicator.boost(handle),
  );
  const gauges = new Gauges(metrics, {
    state,
    log,
    locks,
    sessions,
    chunkservers,
    leases,
    replicator,
    checkpointer,
    logReplicas,
    coherence,
    fileLocks,
    watchers,
  });
  return {
    gauges,
    options,
    superblock,
    state,
    clock,
    log,
    journal,
    checkpointer,
    gate,
    tenure,
    logReplicas,
    mutations,
    namespace,
    accessTimes,
    nodes,
    cutting: new Cutting({ state, allocator, mutations, nodes, gatekeeper }),
    sharing: new Sharing(state, mutations, gatekeeper),
    reads,
    promisedReads: new PromisedReads(state, reads, locations, coherence),
    appenders: new Appenders(state, clock, options.leaseDurationMs),
    coherence,
    watchers,
    sessions,
    fileLocks,
    chunkservers,
    leases,
    pool,
    grants,
    creation: new Creation(namespace, mutations, grants),
    locations,
    replicator,
    goals,
    drains,
    goalAudit: new GoalAudit(state, journal, environment, options.goal, () => replicator.changed()),
    garbage,
    health,
    watch,
    inspection: new Inspection(state, replicas, chunkservers, leases),
    trees: new TreeChecker(state, replicas, health),
    orphans: new OrphanScan(state, journal, environment, options.orphanScanIntervalMs),
    trash: new Trash(state, options.retentionMs, (ids) => garbage.expedite(ids)),
    status: new Status({
      state,
      superblock,
      options,
      log,
      sessions,
      chunkservers,
      leases,
      replicator,
      clock,
      checkpointer,
      logReplicas,
      health,
    }),
  };
}
