/** The client library's entry point for other programs: `import { connect } from 'gfs-fuse/client'`. */
import { hostname } from 'node:os';
import { nodeEnvironment } from '../environment/node/index.js';
import { FileSystem } from './file-system.js';
import { GfsClient } from './index.js';
import { type ClientOptions, clientDefaults, type HostPort } from './options.js';

export { GfsError } from '../protocol/errors.js';
export type { GfsFile } from './file.js';
export { type DirectoryItem, FileSystem, type OpenFlags } from './file-system.js';
export { type RecordCounts, RecordReader, RecordWriter } from './records.js';
export type { FileKind, FileStat } from './stat.js';
export type { Watched } from './watch.js';

export interface ConnectOptions extends Partial<Omit<ClientOptions, 'masters'>> {
  /** Whose files they are; this process' own when left out. */
  readonly uid?: number;
  readonly gids?: readonly number[];
  /** `silent` unless told otherwise. */
  readonly logLevel?: string;
}

/**
 * A session with a cluster.
 * @param masters `host:port`, one or several: whoever is the master answers
 * @throws UNREACHABLE, WRONG_CLUSTER
 */
export async function connect(
  masters: string | readonly string[],
  options: ConnectOptions = {},
): Promise<FileSystem> {
  const { uid = process.getuid?.() ?? 0, gids = process.getgroups?.() ?? [], logLevel, ...rest } = options;
  const environment = nodeEnvironment({ role: 'client', logLevel: logLevel ?? 'silent' });
  const addresses = [masters].flat().map(parseMaster);
  const client = await GfsClient.connect(environment, {
    ...clientDefaults,
    // So that it hears when another client cuts a file that it appends to.
    caches: true,
    hostname: hostname(),
    ...rest,
    masters: addresses,
  });
  return new FileSystem(client, { uid, gids });
}

const DEFAULT_PORT = 5000;

/** As in an address bar: `host`, `host:port`, `[::1]:port`. @throws TypeError */
function parseMaster(text: string): HostPort {
  const { hostname: host, port } = new URL(`gfs://${text}`);
  return { host: host.replace(/^\[|\]$/g, ''), port: port === '' ? DEFAULT_PORT : Number(port) };
}
