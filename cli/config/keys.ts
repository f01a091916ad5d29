/**
 * Every key that a configuration file may have: its type, its default and what it does. The loader,
 * `gfs config show` and docs/configuration.md are made from this table, so that none can be forgotten.
 * Names are those of the paper's reimplementations: `snake_case`, no units.
 */
import { DEFAULT_CHUNK_BYTES, GIB, KIB, MIB } from '../../protocol/limits.js';
import {
  address,
  duration,
  flag,
  host,
  listOf,
  location,
  oneOf,
  path,
  port,
  rack,
  size,
  type ValueType,
  weight,
  whole,
} from './values.js';

export const DEFAULT_MASTER_PORT = 5000;
export const DEFAULT_SHADOW_PORT = 5001;

export interface Key<T, D extends T | undefined = T | undefined> {
  readonly type: ValueType<T>;
  /** `undefined`: not set, which is a meaning of its own. */
  readonly fallback: D;
  /** One or two sentences, for the manual. */
  readonly about: string;
}

export interface Section {
  readonly about: string;
  readonly keys: Readonly<Record<string, Key<unknown>>>;
}

function key<T>(type: ValueType<T>, fallback: NoInfer<T>, about: string): Key<T, T> {
  return { type, fallback, about };
}

/** A key that has no value unless it is given one. */
function optional<T>(type: ValueType<T>, about: string): Key<T> {
  return { type, fallback: undefined, about };
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export const sections = {
  cluster: {
    about: 'What chunkservers and clients need to find the cluster.',
    keys: {
      masters: optional(
        listOf(address(DEFAULT_MASTER_PORT), 16),
        'Where the master is, as `["HOST:PORT"]`. When it is not set: `host` and `port` of `[master]`.',
      ),
    },
  },
  master: {
    about: 'The master: the namespace, and which chunk is where.',
    keys: {
      host: key(host, '127.0.0.1', 'The address to listen on; `0.0.0.0` for every interface.'),
      port: key(port, DEFAULT_MASTER_PORT, 'The TCP port to listen on; 0 lets the system choose one.'),
      advertise_host: optional(
        host,
        'The address that others connect to, when it is not the one to listen on (behind NAT, or with `host = "0.0.0.0"`).',
      ),
      data: key(
        path,
        '.gfs/master',
        'The directory of the operation log. A relative path is taken from the directory of the configuration file.',
      ),
      chunk_size: key(
        size(64 * KIB, 256 * MIB),
        DEFAULT_CHUNK_BYTES,
        'Bytes in a chunk, a multiple of 64KiB. Fixed when the cluster is made: when it is not set, a cluster that is there keeps its own; another value is refused at the start.',
      ),
      replication_factor: key(
        whole(1, 16),
        3,
        'The goal: replicas of each chunk, each on another chunkserver.',
      ),
      distance_weight: key(
        weight,
        0.6,
        "How much a chunkserver's distance to the client counts when replicas are placed and ordered.",
      ),
      space_weight: key(weight, 0.4, 'How much its used share of the disk counts.'),
      lease_duration: key(
        duration(1000, HOUR_MS),
        60_000,
        'How long a primary may order mutations without asking again.',
      ),
      session_renewal: key(
        duration(50, 60_000),
        500,
        'How often chunkservers and clients renew their sessions.',
      ),
      session_timeout: key(
        duration(200, 600_000),
        2000,
        'Silence after which a session is dead. Several times `session_renewal`.',
      ),
      space_low: key(
        weight,
        0.1,
        'The share of all space below which the master warns (its log, `gfs status`, `gfs_master_space_low`) and gives up deleted files early, the oldest first.',
      ),
      retention: key(
        duration(0, 3650 * DAY_MS),
        3 * DAY_MS,
        'How long the chunks of a deleted file are kept.',
      ),
      promises: key(
        whole(1024, 2 ** 27),
        2 ** 20,
        'Names and attributes that mounts may keep without asking, all mounts together; 22 bytes of memory each. Rounded up to a power of two; beyond it the oldest promise is taken back.',
      ),
      metrics_port: optional(
        port,
        'Serves Prometheus metrics at `http://HOST:PORT/metrics`. Not set: no metrics.',
      ),
    },
  },
  operation_log: {
    about: 'What makes changes of the namespace durable.',
    keys: {
      sync: key(
        oneOf('always', 'interval'),
        'always',
        '`"always"`: a reply means that the record is flushed to disk. `"interval"`: it may be lost with the host, up to `sync_interval` of them.',
      ),
      sync_interval: key(
        duration(1, 60_000),
        1000,
        'How often the log is flushed when `sync` is `"interval"`.',
      ),
      checkpoint_bytes: key(
        size(1 * MIB, 1024 * GIB),
        32 * MIB,
        'How much the log grows between two checkpoints, or by a quarter of the checkpoint where that is more: what a start replays at most, with one segment (16 MiB).',
      ),
    },
  },
  replication: {
    about: 'Healing: how chunks get back to their goal, and how servers share the load (paper §4.3).',
    keys: {
      wait: key(
        duration(0, DAY_MS),
        15_000,
        'How long a chunkserver that is gone is waited for before its chunks are copied elsewhere; a quarter of it for chunks with one replica left. Longer than a restart takes.',
      ),
      clones: key(whole(1, 4096), 64, 'Chunks that are copied at once, in the whole cluster.'),
      clones_per_server: key(whole(1, 1024), 10, 'Of these, to one server and from one server.'),
      clone_rate: key(size(0, 1024 * GIB), 32 * MIB, 'Bytes per second of one copy; 0: no limit.'),
      server_rate: key(
        size(0, 1024 * GIB),
        128 * MIB,
        'Bytes per second of all copies that one server sends or receives; 0: no limit.',
      ),
      moves_per_server: key(
        whole(0, 1024),
        2,
        'Chunks on the way at once, to or from one server, to even out how full servers are; 0: none is moved for that.',
      ),
    },
  },
  log_replicas: {
    about: 'Copies of the operation log on other hosts, each kept by a `gfs shadow`.',
    keys: {
      commit: key(
        oneOf('all', 'majority'),
        'all',
        '`"all"`: a reply means that every log replica has flushed the record. `"majority"`: most of the copies have, the master\'s among them.',
      ),
      timeout: key(
        duration(200, 600_000),
        2000,
        'When too few log replicas have answered for so long, changes are refused (EROFS) until they do; reads go on.',
      ),
    },
  },
  shadow: {
    about:
      'A shadow: a log replica on another host, which serves reads while the master is away and can be promoted.',
    keys: {
      host: key(host, '127.0.0.1', 'The address to listen on.'),
      port: key(
        port,
        DEFAULT_SHADOW_PORT,
        'The TCP port to listen on; 0 lets the system choose one. The master remembers it: it should stay.',
      ),
      advertise_host: optional(host, 'As `advertise_host` of `[master]`.'),
      data: key(
        path,
        '.gfs/shadow',
        'The directory of its copy of the operation log. A relative path is taken from the directory of the configuration file.',
      ),
      count: key(whole(0, 4), 1, 'How many `gfs up` runs.'),
      metrics_port: optional(port, 'As `metrics_port` of `[master]`.'),
    },
  },
  namespace: {
    about: 'Locks on the namespace.',
    keys: {
      parent_lock: key(
        oneOf('shared', 'exclusive'),
        'shared',
        '`"shared"`: files can be made in one directory concurrently, as in the paper (§4.1). `"exclusive"`: one at a time.',
      ),
    },
  },
  chunk_server: {
    about: 'The chunkservers: the data.',
    keys: {
      host: key(host, '127.0.0.1', 'The address to listen on.'),
      port: key(port, 0, 'The TCP port to listen on; 0 lets the system choose one.'),
      advertise_host: optional(
        host,
        'The address that others connect to, when it is not the one to listen on (behind NAT, or with `host = "0.0.0.0"`).',
      ),
      disks: key(
        listOf(path, 64),
        ['.gfs/chunkserver'],
        'Directories for chunks, one on each disk. Relative paths are taken from the directory of the configuration file.',
      ),
      location: optional(location, 'Where it stands: coordinates in any unit, the same for all.'),
      rack: optional(rack, 'Its rack; replicas are spread over racks.'),
      sync: key(
        oneOf('disk', 'memory'),
        'disk',
        '`"disk"`: fsync and O_SYNC on the mount flush the data to the disk of every replica. `"memory"`: they reach every replica, and each flushes when its system does.',
      ),
      reserved: key(
        size(0, 1024 * GIB),
        256 * MIB,
        'Kept free on every disk, for the journal and repair: a chunkserver with less takes no new chunks.',
      ),
      scrub_interval: key(
        duration(0, 366 * DAY_MS),
        7 * DAY_MS,
        'Every replica is read and checked against its checksums once in this time, while no client asks for anything; `"0s"`: only by `gfs scrub --now`.',
      ),
      heartbeat_interval: key(
        duration(100, 600_000),
        5000,
        'How often a chunkserver reports its space, load and some of its chunks to the master. (The master sets it for all.)',
      ),
      metrics_port: optional(port, 'As `metrics_port` of `[master]`.'),
    },
  },
  client: {
    about: 'Mounts, and other programs that use the client library.',
    keys: {
      location: optional(location, 'Where this client stands, for choosing near replicas.'),
      rack: optional(rack, 'Its rack.'),
      location_ttl: key(
        duration(0, DAY_MS),
        60_000,
        'How long a client may use what it knows of where a chunk is.',
      ),
      deadline: key(
        duration(1000, DAY_MS),
        30_000,
        'How long an operation tries before it fails, when nothing can be reached.',
      ),
      hard: key(flag, false, '`true`: try for ever (operations stay interruptible).'),
      write_behind: key(
        size(1 * MIB, 4 * GIB),
        32 * MIB,
        'Bytes that may wait to be written, for all open files together.',
      ),
      watchdog: key(
        duration(0, DAY_MS),
        30_000,
        'A mount in the background whose process has been silent for so long is killed and mounted again; 0: never.',
      ),
      metrics_port: optional(port, 'As `metrics_port` of `[master]`.'),
    },
  },
  log: {
    about: 'What each process tells.',
    keys: {
      level: key(oneOf('debug', 'info', 'warn', 'error'), 'info', 'The least that is worth a line.'),
      file: optional(path, 'Where to; not set: standard error.'),
      trace: key(
        flag,
        true,
        'Whether masters and chunkservers keep a trace of the requests that they answer, without file data (`gfs trace`; paper §5.3).',
      ),
      trace_size: key(
        size(0, 64 * GIB),
        64 * MIB,
        'Bytes of the trace that are kept in files, below `trace` in the data directory; 0: the newest few MiB, in memory.',
      ),
    },
  },
} as const satisfies Readonly<Record<string, Section>>;

export type SectionName = keyof typeof sections;

type ValueOfKey<K> = K extends Key<infer T, infer D> ? (undefined extends D ? T | undefined : T) : never;

/** A configuration with every key, as {@link sections} has them. */
export type Configuration = {
  readonly [S in SectionName]: {
    readonly [K in keyof (typeof sections)[S]['keys']]: ValueOfKey<(typeof sections)[S]['keys'][K]>;
  };
};

/** The sections and keys in order, for whatever treats them alike. */
export function* everyKey(): Generator<{ section: SectionName; name: string; key: Key<unknown> }> {
  for (const [section, { keys }] of Object.entries(sections) as [SectionName, Section][]) {
    for (const [name, key] of Object.entries(keys)) yield { section, name, key };
  }
}
