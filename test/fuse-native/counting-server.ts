/**
 * Serves the file system in memory through fuse-native, as conformance/serve.ts does, and answers each
 * IPC message with how many library threads the package has allocated memory for: `node
 * counting-server.js DIRECTORY`.
 */
import { nodeEnvironment } from '../../environment/node/index.js';
import { fuseNativeBinding } from '../../fuse-client/fuse-native/index.js';
import { loadPackage } from '../../fuse-client/fuse-native/package.js';
import { MemoryHandler } from '../conformance/memory-handler.js';

let threads = 0;
const { prototype } = loadPackage() as unknown as { prototype: { _malloc(sizeBytes: number): Buffer } };
const allocate = prototype._malloc;
prototype._malloc = function (this: unknown, sizeBytes: number) {
  threads++;
  return allocate.call(this, sizeBytes);
};

const environment = nodeEnvironment({ role: 'test', logLevel: 'warn', pretty: true });
const mount = await fuseNativeBinding(environment).mount(new MemoryHandler(environment.clock), {
  directory: process.argv[2]!,
  source: 'test',
  readOnly: false,
  allowOther: true,
  defaultPermissions: true,
  extra: [],
});
process.on('SIGTERM', () => void mount.unmount());
process.on('message', () => process.send!({ threads }));
process.stdout.write('mounted\n');
await mount.unmounted;
process.exit(0);
