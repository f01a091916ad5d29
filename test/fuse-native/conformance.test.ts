/** The fuse-native binding over memory: the conformance suite, with the libfuse module and without. */
import t from 'tap';
import { nodeEnvironment } from '../../environment/node/index.js';
import { fuseNativeBinding } from '../../fuse-client/fuse-native/index.js';
import { loadPackage } from '../../fuse-client/fuse-native/package.js';
import { startMount } from '../conformance/mounted.js';
import { conformance } from '../conformance/suite.js';

/** tap allows a file half a minute by default: enough for one run of the suite here, not for two. */
t.setTimeout(120_000);

function whyNot(): string | false {
  if (process.geteuid?.() !== 0) return 'mounting needs root';
  try {
    loadPackage();
    return false;
  } catch (error) {
    return (error as Error).message;
  }
}

const environment = nodeEnvironment({ role: 'test', logLevel: 'error' });
const withModule = fuseNativeBinding(environment);
const plain = fuseNativeBinding(environment, { moduleFile: false });
const skip = whyNot();
const skipModule = skip || (withModule.capabilities.has('ioctl') ? false : 'the libfuse module is not built');

await t.test('fuse-native with its module', { skip: skipModule }, async (t) => {
  const { path } = await startMount(t, 'fuse-native');
  await conformance(t, path, withModule.capabilities);
});

await t.test('fuse-native without its module', { skip }, async (t) => {
  const { path } = await startMount(t, 'fuse-native without its module');
  await conformance(t, path, plain.capabilities);
});
