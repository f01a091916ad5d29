import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { nodeEnvironment } from '../../environment/node/index.js';
import { fuseNativeBinding } from '../../fuse-client/fuse-native/index.js';
import { loadPackage } from '../../fuse-client/fuse-native/package.js';
import type { Capability } from '../../fuse-client/handler.js';

/** The directory that package.json is in: compiled tests run from a folder inside it. */
export const repositoryRoot = findRoot(path.dirname(fileURLToPath(import.meta.url)));

function findRoot(directory: string): string {
  if (existsSync(path.join(directory, 'package.json'))) return directory;
  return findRoot(path.dirname(directory));
}

const environment = nodeEnvironment({ role: 'test', logLevel: 'error' });
/** With the libfuse module, where it is built. */
export const moduleCapabilities: ReadonlySet<Capability> = fuseNativeBinding(environment).capabilities;
export const plainCapabilities: ReadonlySet<Capability> = fuseNativeBinding(environment, {
  moduleFile: false,
}).capabilities;

/** Why the binding cannot be tested here, or false where it can. For tap's `skip`. */
export const skipMount: string | false = whyNotMount();
/** The same for what needs the libfuse module. */
export const skipModule: string | false =
  skipMount || (moduleCapabilities.has('ioctl') ? false : 'the libfuse module is not built');

function whyNotMount(): string | false {
  if (process.geteuid?.() !== 0) return 'mounting needs root';
  if (!existsSync('/dev/fuse')) return 'there is no /dev/fuse';
  try {
    loadPackage();
    return false;
  } catch (error) {
    return (error as Error).message;
  }
}
