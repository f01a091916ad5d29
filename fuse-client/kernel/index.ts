/** The `kernel` binding: the FUSE kernel protocol in TypeScript over a small native addon. */
import type { Environment } from '../../environment/ports/index.js';
import type { Binding, Capability, FuseHandler, Mount, MountOptions } from '../handler.js';
import { loadAddon } from './addon.js';
import { KernelMount } from './kernel-mount.js';
import { detachDirectory, mountDirectory } from './mounting.js';
import { prepareMountPoint } from './mountpoint.js';
import type { SessionOptions } from './negotiation.js';

export { type Addon, loadAddon } from './addon.js';

export type KernelBindingOptions = Partial<SessionOptions>;

export const kernelBindingDefaults: SessionOptions = {
  locks: false,
  atomicTruncate: false,
  writebackCache: false,
  autoInvalidateData: true,
  acls: false,
  asyncDirectIo: true,
};

const CAPABILITIES: readonly Capability[] = [
  'ioctl',
  'copy_file_range',
  'fallocate',
  'lseek',
  'readdirplus',
  'rename_flags',
  'notifications',
  'caller_identity',
  'interrupt',
  'byte_names',
  'utimens_separate',
  'create_flags',
  'tmpfile',
  'statfs_64bit',
  'exact_times',
];

function capabilitiesOf(settings: SessionOptions): Set<Capability> {
  const capabilities = new Set<Capability>(CAPABILITIES);
  if (settings.locks) capabilities.add('locks');
  if (settings.acls) capabilities.add('acls');
  return capabilities;
}

export function kernelBinding(environment: Environment, options: KernelBindingOptions = {}): Binding {
  const settings: SessionOptions = { ...kernelBindingDefaults, ...options };
  const capabilities = capabilitiesOf(settings);
  return {
    name: 'kernel',
    capabilities,
    async mount(handler: FuseHandler, mountOptions: MountOptions): Promise<Mount> {
      const addon = loadAddon();
      const detach = (path: string) => detachDirectory(addon, path);
      const directory = await prepareMountPoint(mountOptions.directory, detach, environment.timers);
      const mounted = await mountDirectory(addon, directory, mountOptions);
      const mount = new KernelMount(addon, mounted, directory, handler, capabilities, settings, environment);
      try {
        await mount.started();
      } catch (error) {
        await mount.unmount();
        throw error;
      }
      return mount;
    },
  };
}
