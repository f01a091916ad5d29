/** Paths as users of a mount write them, as paths of the cluster. */
import { GfsError } from '../protocol/errors.js';
import type { ByteString } from './handler.js';
import type { HandlerOptions } from './options.js';

/**
 * @param path absolute, below the mount point as the user sees it, or relative to `directory`
 * @param directory a path of the cluster
 * @throws CROSS_DEVICE when it is not on this mount
 */
export function clusterPath(
  options: Pick<HandlerOptions, 'path' | 'directory'>,
  path: ByteString,
  directory: ByteString,
): ByteString {
  const root = splitPath(options.path);
  let names: string[];
  if (path.startsWith('/')) {
    const mountPoint = splitPath(Buffer.from(options.directory).toString('latin1'));
    names = resolveDots(splitPath(path));
    if (!mountPoint.every((name, at) => names[at] === name)) {
      throw new GfsError('CROSS_DEVICE', `not below ${options.directory}`);
    }
    names = names.slice(mountPoint.length);
  } else {
    names = resolveDots([...splitPath(directory).slice(root.length), ...splitPath(path)]);
  }
  return `/${[...root, ...names].join('/')}`;
}

function splitPath(path: ByteString): string[] {
  return path.split('/').filter((name) => name !== '');
}

/** @throws CROSS_DEVICE when `..` leads out */
function resolveDots(names: readonly string[]): string[] {
  const resolved: string[] = [];
  for (const name of names) {
    if (name === '.') continue;
    if (name !== '..') resolved.push(name);
    else if (resolved.pop() === undefined) throw new GfsError('CROSS_DEVICE', 'out of the mount');
  }
  return resolved;
}
