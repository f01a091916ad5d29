/** The fuse-native binding over memory: the conformance suite, with the libfuse module and without. */
import t from 'tap';
import { startMount } from '../conformance/mounted.js';
import { conformance } from '../conformance/suite.js';
import { moduleCapabilities, plainCapabilities, skipModule, skipMount } from './support.js';

/** tap allows a file half a minute by default: enough for one run of the suite here, not for two. */
t.setTimeout(600_000);

await t.test('fuse-native with its module', { skip: skipModule }, async (t) => {
  const { path } = await startMount(t, 'fuse-native');
  await conformance(t, path, moduleCapabilities);
});

await t.test('fuse-native without its module', { skip: skipMount }, async (t) => {
  const { path } = await startMount(t, 'fuse-native without its module');
  await conformance(t, path, plainCapabilities);
});
