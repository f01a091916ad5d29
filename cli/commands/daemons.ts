/** `gfs master`, `gfs shadow`, `gfs chunkserver`: one program in the foreground. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chunkserverOptions, masterOptions, processOptions, shadowOptions } from '../config/options.js';
import { codeOf, Failure } from '../failure.js';
import { assignmentsOf, coordinates, type DaemonFlags, loadWith } from '../flags.js';
import { listenFailure } from '../ports.js';
import { mastersAssignment } from './masters.js';

export interface MasterFlags extends DaemonFlags {
  readonly host?: string;
  readonly port?: string;
  readonly advertiseHost?: string;
  readonly data?: string;
}

export async function master(flags: MasterFlags): Promise<void> {
  const { host, port, advertiseHost, data, metricsPort } = flags;
  const { configuration, origins } = await loadWith(
    flags,
    assignmentsOf(
      { host, port, advertiseHost, data: quoted(data), metricsPort },
      {
        host: 'master.host',
        port: 'master.port',
        advertiseHost: 'master.advertise_host',
        data: 'master.data',
        metricsPort: 'master.metrics_port',
      },
    ),
  );
  const configured = masterOptions(configuration);
  const hasChunkSize = origins.get('master.chunk_size') !== 'default';
  const chunkBytes = hasChunkSize ? undefined : chunkBytesOf(configured.dataDirectory);
  const options = { ...configured, chunkBytes: chunkBytes ?? configured.chunkBytes };
  const { runMaster } = await import('../../master/main.js');
  await startOrExplain('master', options, options.dataDirectory, () =>
    runMaster(options, processOptions(configuration, configuration.master.metrics_port, flags.addressFile)),
  );
}

/** The chunk size of a cluster that is there: who names none means that one. */
function chunkBytesOf(dataDirectory: string): number | undefined {
  try {
    const superblock: unknown = JSON.parse(readFileSync(join(dataDirectory, 'superblock.json'), 'utf8'));
    const { chunkBytes } = superblock as { chunkBytes?: unknown };
    return typeof chunkBytes === 'number' ? chunkBytes : undefined;
  } catch {
    // None yet, or one that the master will complain of.
    return undefined;
  }
}

export interface ShadowFlags extends DaemonFlags {
  readonly master?: readonly string[];
  readonly host?: string;
  readonly port?: string;
  readonly advertiseHost?: string;
  readonly data?: string;
}

export async function shadow(flags: ShadowFlags): Promise<void> {
  const { host, port, advertiseHost, metricsPort } = flags;
  const { configuration } = await loadWith(flags, [
    ...mastersAssignment(flags.master),
    ...assignmentsOf(
      { host, port, advertiseHost, data: quoted(flags.data), metricsPort },
      {
        host: 'shadow.host',
        port: 'shadow.port',
        advertiseHost: 'shadow.advertise_host',
        data: 'shadow.data',
        metricsPort: 'shadow.metrics_port',
      },
    ),
  ]);
  const configured = shadowOptions(configuration);
  const options = {
    ...configured,
    chunkBytes: chunkBytesOf(configured.dataDirectory) ?? configured.chunkBytes,
  };
  const { runShadow } = await import('../../master/main.js');
  await startOrExplain('shadow', options, options.dataDirectory, () =>
    runShadow(options, processOptions(configuration, configuration.shadow.metrics_port, flags.addressFile)),
  );
}

export interface ChunkserverFlags extends DaemonFlags {
  readonly master?: readonly string[];
  readonly host?: string;
  readonly port?: string;
  readonly advertiseHost?: string;
  readonly data?: readonly string[];
  readonly location?: string;
  readonly rack?: string;
}

export async function chunkserver(flags: ChunkserverFlags): Promise<void> {
  const { configuration } = await loadWith(flags, [
    ...mastersAssignment(flags.master),
    ...assignmentsOf(
      {
        host: flags.host,
        port: flags.port,
        advertiseHost: flags.advertiseHost,
        data: flags.data,
        location: flags.location === undefined ? undefined : coordinates(flags.location),
        rack: quoted(flags.rack),
        metricsPort: flags.metricsPort,
      },
      {
        host: 'chunk_server.host',
        port: 'chunk_server.port',
        advertiseHost: 'chunk_server.advertise_host',
        data: 'chunk_server.disks',
        location: 'chunk_server.location',
        rack: 'chunk_server.rack',
        metricsPort: 'chunk_server.metrics_port',
      },
    ),
  ]);
  const options = chunkserverOptions(configuration);
  const { runChunkserver } = await import('../../chunkserver/main.js');
  await startOrExplain('chunkserver', options, options.dataDirectories.join(', '), () =>
    runChunkserver(
      options,
      processOptions(configuration, configuration.chunk_server.metrics_port, flags.addressFile),
    ),
  );
}

/** A string of TOML. */
function quoted(text: string | undefined): string | undefined {
  return text === undefined ? undefined : JSON.stringify(text);
}

const DATA_DIRECTORY_CODES = new Set(['EACCES', 'EEXIST', 'ENOTDIR', 'EPERM', 'EROFS']);

/** Runs it to its end; a start that fails for a reason outside becomes a message that names it. */
async function startOrExplain(
  role: string,
  at: { readonly host: string; readonly port: number },
  data: string,
  start: () => Promise<void>,
): Promise<void> {
  try {
    await start();
  } catch (error) {
    const code = codeOf(error);
    if (
      code === 'EADDRINUSE' ||
      code === 'EADDRNOTAVAIL' ||
      (error as { syscall?: string }).syscall === 'listen'
    ) {
      throw listenFailure(at.host, at.port, error, `gfs ${role} --port PORT`);
    }
    if (code !== undefined && DATA_DIRECTORY_CODES.has(code)) {
      throw new Failure(`cannot use the data directory ${data}: ${(error as Error).message}`);
    }
    if ((error as Error).name === 'DamagedLogError')
      throw new Failure((error as Error).message, `What can be saved: gfs log check ${data}`);
    throw error;
  }
}
