/**
 * Serves the in-memory file system: `node serve.js BINDING DIRECTORY [OPTION…]`. Says `mounted` on
 * standard output when it is; SIGTERM unmounts and ends it. A process of its own, because the one that
 * serves a mount must never wait for it.
 */
import { nodeEnvironment } from '../../environment/node/index.js';
import type { Environment } from '../../environment/ports/index.js';
import { fuseNativeBinding } from '../../fuse-client/fuse-native/index.js';
import type { Binding } from '../../fuse-client/handler.js';
import { kernelBinding } from '../../fuse-client/kernel/index.js';
import { MemoryHandler } from './memory-handler.js';

async function loadBinding(name: string, environment: Environment): Promise<Binding> {
  // The memory has no ACLs, so the kernel applies the umask.
  if (name === 'kernel') return kernelBinding(environment, { locks: true });
  if (name === 'fuse-native') return fuseNativeBinding(environment);
  if (name === 'fuse-native without its module') return fuseNativeBinding(environment, { moduleFile: false });
  throw new Error(`there is no binding "${name}"`);
}

const [bindingName = 'kernel', directory, ...extra] = process.argv.slice(2);
if (directory === undefined) throw new Error('usage: serve BINDING DIRECTORY [OPTION…]');

const ttlMs = Number(process.env.TTL_MS ?? 1000);
const environment = nodeEnvironment({
  role: 'conformance',
  logLevel: process.env.LOG_LEVEL ?? 'warn',
  pretty: true,
});
const handler = new MemoryHandler(environment.clock, { entryTtlMs: 1000, attributeTtlMs: ttlMs });
const binding = await loadBinding(bindingName, environment);
const mount = await binding.mount(handler, {
  directory,
  source: 'conformance',
  readOnly: false,
  allowOther: (process.geteuid?.() ?? 0) === 0,
  defaultPermissions: true,
  extra,
});
process.on('SIGTERM', () => void mount.unmount());
process.stdout.write('mounted\n');
await mount.unmounted;
process.exit(0);
