/** From a configuration to the options of each program. */
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import type { ChunkserverOptions } from '../../chunkserver/options.js';
import type { ClientOptions } from '../../client/options.js';
import type { ProcessOptions } from '../../environment/node/process.js';
import type { MasterOptions, ShadowOptions } from '../../master/options.js';
import type { Configuration } from './keys.js';
import type { HostPort } from './values.js';

const ANY_ADDRESS = new Set(['0.0.0.0', '::']);

/** Where to reach the master: as configured, or where the configuration has it listen. */
export function mastersOf({ cluster, master }: Configuration): readonly HostPort[] {
  if (cluster.masters !== undefined && cluster.masters.length > 0) return cluster.masters;
  return [{ host: ANY_ADDRESS.has(master.host) ? '127.0.0.1' : master.host, port: master.port }];
}

export function masterOptions(configuration: Configuration): MasterOptions {
  const { master, operation_log: log, log_replicas: replicas, namespace, replication } = configuration;
  const { chunk_server: chunkServer } = configuration;
  return {
    dataDirectory: resolve(master.data),
    host: master.host,
    port: master.port,
    chunkBytes: master.chunk_size,
    goal: master.replication_factor,
    distanceWeight: master.distance_weight,
    spaceWeight: master.space_weight,
    parentLock: namespace.parent_lock,
    logSync: log.sync,
    logSyncIntervalMs: log.sync_interval,
    checkpointBytes: log.checkpoint_bytes,
    logCommit: replicas.commit,
    logReplicaTimeoutMs: replicas.timeout,
    ...(master.advertise_host === undefined ? {} : { advertiseHost: master.advertise_host }),
    leaseDurationMs: master.lease_duration,
    renewIntervalMs: master.session_renewal,
    sessionTimeoutMs: master.session_timeout,
    heartbeatIntervalMs: chunkServer.heartbeat_interval,
    spaceLow: master.space_low,
    retentionMs: master.retention,
    ...traceOptions(configuration),
    replication: {
      waitMs: replication.wait,
      maxClones: replication.clones,
      maxClonesPerServer: replication.clones_per_server,
      cloneRateBps: replication.clone_rate,
      serverRateBps: replication.server_rate,
      maxMovesPerServer: replication.moves_per_server,
    },
    maxPromises: master.promises,
  };
}

export function shadowOptions(configuration: Configuration): ShadowOptions {
  const { shadow } = configuration;
  const { advertiseHost: _, ...master } = masterOptions(configuration);
  return {
    ...master,
    dataDirectory: resolve(shadow.data),
    host: shadow.host,
    port: shadow.port,
    ...(shadow.advertise_host === undefined ? {} : { advertiseHost: shadow.advertise_host }),
    masters: mastersOf(configuration),
  };
}

export function chunkserverOptions(configuration: Configuration): ChunkserverOptions {
  const { chunk_server: own } = configuration;
  return {
    dataDirectories: own.disks.map((disk) => resolve(disk)),
    host: own.host,
    port: own.port,
    ...(own.advertise_host === undefined ? {} : { advertiseHost: own.advertise_host }),
    masters: [...mastersOf(configuration)],
    ...(own.location === undefined ? {} : { location: own.location }),
    ...(own.rack === undefined ? {} : { rack: own.rack }),
    sync: own.sync,
    reservedBytes: own.reserved,
    scrubIntervalMs: own.scrub_interval,
    ...traceOptions(configuration),
  };
}

function traceOptions({ log }: Configuration): { readonly traceBytes?: number } {
  return log.trace ? { traceBytes: log.trace_size } : {};
}

export function clientOptions(configuration: Configuration): ClientOptions {
  const { client } = configuration;
  return {
    masters: mastersOf(configuration),
    hostname: hostname(),
    ...(client.location === undefined ? {} : { location: client.location }),
    ...(client.rack === undefined ? {} : { rack: client.rack }),
    locationTtlMs: client.location_ttl,
    deadlineMs: client.deadline,
    hard: client.hard,
    writeBehindBytes: client.write_behind,
    caches: false,
  };
}

/** @param addressFile where the process tells its address once it has started */
export function processOptions(
  { log }: Configuration,
  metricsPort: number | undefined,
  addressFile: string | undefined,
): ProcessOptions {
  return {
    addressFile: addressFile === undefined ? undefined : resolve(addressFile),
    logLevel: log.level,
    logFile: log.file === undefined ? undefined : resolve(log.file),
    metricsPort,
  };
}
