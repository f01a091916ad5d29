/** Where in which cluster a path of this host is: what mount it is on, and what that mount shows. */
import { readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { DEFAULT_MASTER_PORT } from './config/keys.js';
import { type HostPort, parseHostPort } from './config/values.js';
import { isGfs, type Mount, parseMountInfo } from './mounts.js';

/** A path on a mounted GFS. */
export interface Place {
  readonly mountPoint: string;
  /** Absolute, its links resolved as far as it is there. */
  readonly path: string;
  /** As the cluster knows it: one character for each byte. */
  readonly clusterPath: string;
  /** The directory of the cluster that the mount shows. */
  readonly root: string;
  /** As the mount was told; empty when its source does not say. */
  readonly masters: readonly HostPort[];
}

/** Undefined when the path is not on a mounted GFS. It need not be there. */
export function placeOf(path: string): Place | undefined {
  const real = realAsFarAsThere(resolve(path));
  const mounts = parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
  let nearest: Mount | undefined;
  for (const mount of mounts) {
    if (isBelow(real, mount.mountPoint) && mount.mountPoint.length >= (nearest?.mountPoint.length ?? 0)) {
      nearest = mount;
    }
  }
  if (nearest === undefined || !isGfs(nearest)) return undefined;
  const { root, masters } = sourceOf(nearest.source);
  const below = real.slice(nearest.mountPoint.length).replace(/^\/+/, '');
  const clusterPath = bytesOf(join('/', root, below));
  return { mountPoint: nearest.mountPoint, path: real, clusterPath, root: bytesOf(root), masters };
}

/** A path of the cluster as the user of a mount sees it. */
export function shownPath(place: Place | undefined, clusterPath: string): string {
  if (place === undefined || !isBelow(clusterPath, place.root)) return textOf(clusterPath);
  return join(place.mountPoint, textOf(clusterPath.slice(place.root === '/' ? 0 : place.root.length)));
}

export function isBelow(path: string, directory: string): boolean {
  return directory === '/' || path === directory || path.startsWith(`${directory}/`);
}

/** A text of the command line as the cluster's names are kept. */
export function bytesOf(text: string): string {
  return Buffer.from(text).toString('latin1');
}

/** A name of the cluster, for people. */
export function textOf(name: string): string {
  return Buffer.from(name, 'latin1').toString();
}

function realAsFarAsThere(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const above = dirname(path);
    return above === path ? path : join(realAsFarAsThere(above), basename(path));
  }
}

/** `HOST:PORT[,HOST:PORT…]:/PATH`, as a mount has it for its source. */
function sourceOf(source: string): { readonly root: string; readonly masters: readonly HostPort[] } {
  const at = source.indexOf(':/');
  if (at === -1) return { root: '/', masters: [] };
  try {
    const masters = source
      .slice(0, at)
      .split(',')
      .map((text) => parseHostPort(text, DEFAULT_MASTER_PORT));
    return { root: source.slice(at + 1), masters };
  } catch {
    return { root: source.slice(at + 1), masters: [] };
  }
}
