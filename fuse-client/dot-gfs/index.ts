/** Puts `.gfs` before a mount's file system, and watches every operation that comes by. */
import type { GfsClient } from '../../client/index.js';
import type { Environment } from '../../environment/ports/index.js';
import { GfsError } from '../../protocol/errors.js';
import { ROOT_ID } from '../../protocol/messages/index.js';
import type { FuseHandler } from '../handler.js';
import { InodeMap } from '../inodes.js';
import type { MountProgramOptions } from '../options.js';
import { DotGfs } from './dot-gfs.js';
import { DOT_GFS, DotGfsInode, isVirtualInode } from './inodes.js';
import { type Method, Observer } from './observer.js';
import { concerns, type OperationArguments, type OperationName, operationNames } from './operations.js';
import { Oplog } from './oplog.js';
import { statsText } from './stats-text.js';
import { TrashFiles } from './trash-files.js';

/** Who runs the mount, and what else `.gfs/config` tells. */
export interface MountIdentity {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

/** @param rootId the node that is the mount's root */
export function withDotGfs(
  inner: FuseHandler,
  environment: Environment,
  client: GfsClient,
  options: MountProgramOptions,
  identity: MountIdentity,
  rootId: number,
): FuseHandler {
  const { clock } = environment;
  const startedAtMs = clock.monotonicMs();
  const oplog = new Oplog();
  const observer = new Observer(environment, oplog);
  const trash = new TrashFiles(client, inner, new InodeMap(rootId), options);
  const texts = [
    {
      inode: DotGfsInode.STATS,
      name: 'stats',
      text: () => statsText(observer, clock.monotonicMs() - startedAtMs),
    },
    { inode: DotGfsInode.CONFIG, name: 'config', text: () => configText(client, options, identity) },
  ];
  const virtual = new DotGfs({ environment, owner: identity, texts, oplog, trash });
  return routed(inner, virtual, observer);
}

/** Operations on `.gfs` go to `virtual`, all others, watched, to `inner`. */
function routed(inner: FuseHandler, virtual: DotGfs, observer: Observer): FuseHandler {
  const methods: Partial<Record<OperationName, unknown>> = {};
  for (const operation of operationNames) {
    const real = (inner[operation] as Method).bind(inner);
    const watched = operation === 'forget' ? real : observer.watched(operation, real);
    const own = (virtual as Partial<Record<OperationName, unknown>>)[operation] as Method | undefined;
    const isOfDotGfs = concerns(operation, isVirtualInode, ROOT_ID, DOT_GFS);
    methods[operation] = (...args: OperationArguments) => {
      if (!isOfDotGfs(args)) return watched(...args);
      return own === undefined
        ? Promise.reject(new GfsError('NOT_PERMITTED'))
        : own.apply(virtual, [...args]);
    };
  }
  return methods as unknown as FuseHandler;
}

function configText(client: GfsClient, options: MountProgramOptions, identity: MountIdentity): string {
  const { directory, source, path, binding, readOnly, allowOther, defaultPermissions, extra } = options;
  const { entryTtlMs, attributeTtlMs, client: library } = options;
  const cluster = { id: client.master.clusterId, chunkBytes: client.chunkBytes };
  const session = { id: client.master.id, clientId: client.master.clientId };
  const mount = { directory, source, path: Buffer.from(path, 'latin1').toString(), binding };
  const flags = { readOnly, allowOther, defaultPermissions, extra, entryTtlMs, attributeTtlMs };
  return `${JSON.stringify({ ...identity, ...mount, ...flags, cluster, session, client: library }, null, 2)}\n`;
}
