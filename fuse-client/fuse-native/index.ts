/**
 * The `fuse-native` binding: a mount through the npm package of that name and libfuse 2, for hosts where
 * the kernel binding's addon cannot be built or loaded. What the package cannot carry is missing from
 * `capabilities`; with the libfuse module of `native-module/` most of it is there again.
 */
import { realpath } from 'node:fs/promises';
import type { Environment } from '../../environment/ports/index.js';
import type { Binding, Capability, FuseHandler, Mount, MountOptions } from '../handler.js';
import { moduleCodec, plainCodec } from './codec.js';
import { replaceInternals } from './internals.js';
import { detach, isStaleMount } from './mount-table.js';
import { NativeMount } from './native-mount.js';
import { packageOperations } from './operations.js';
import { packageOptions } from './options.js';
import { loadPackage, type Package, type PackageDriver } from './package.js';
import { PathFiles } from './path-files.js';
import { Requests } from './requests.js';
import { defaultModuleFile, loadStackedModule } from './stacked-module.js';

export interface FuseNativeOptions {
  /** The libfuse module, or false to do without. By default the one that scripts/native.mjs builds. */
  readonly moduleFile?: string | false;
  /** Names that are kept with their inodes. Default 65,536. */
  readonly maxCachedNames?: number;
}

const DEFAULT_CACHED_NAMES = 65_536;

/** What the module adds. All else is missing from libfuse 2 or has no way into it. */
const MODULE_CAPABILITIES: readonly Capability[] = [
  'ioctl',
  'caller_identity',
  'byte_names',
  'create_flags',
  'utimens_separate',
  'statfs_64bit',
  'exact_times',
];

export function fuseNativeBinding(environment: Environment, options: FuseNativeOptions = {}): Binding {
  const logger = environment.logger.child({ binding: 'fuse-native' });
  const { moduleFile = defaultModuleFile(), maxCachedNames = DEFAULT_CACHED_NAMES } = options;
  const module = moduleFile !== false && loadStackedModule(moduleFile, logger);
  const capabilities: ReadonlySet<Capability> = new Set(module ? MODULE_CAPABILITIES : []);

  const mount = async (handler: FuseHandler, mountOptions: MountOptions): Promise<Mount> => {
    const Fuse = loadPackage();
    // The package's own hands the directory's name to a shell. NativeMount detaches it.
    Fuse.unmount = (_directory, done) => done(null);
    if (await isStaleMount(mountOptions.directory)) await detach(mountOptions.directory);
    const directory = await realpath(mountOptions.directory);

    const codec = module ? moduleCodec : plainCodec(processIdentity());
    const requests = new Requests(codec, logger);
    const files = new PathFiles(handler, environment.clock, maxCachedNames);
    const driver = makeDriver(
      Fuse,
      directory,
      packageOperations(files, requests, codec),
      mountOptions,
      module,
    );
    replaceInternals(driver, files, requests, codec, module, logger);
    await startDriver(driver, directory);
    return NativeMount.watch(environment, { driver, directory, files, requests, capabilities });
  };
  return { name: 'fuse-native', capabilities, mount };
}

function makeDriver(
  Fuse: Package,
  directory: string,
  operations: ReturnType<typeof packageOperations>,
  options: MountOptions,
  module: boolean,
): PackageDriver {
  const implemented = {
    getattr: true,
    fgetattr: true,
    utimens: true,
    getxattr: true,
    listxattr: true,
  } as const;
  return new Fuse(directory, { ...operations, ...implemented }, packageOptions(directory, options, module));
}

function startDriver(driver: PackageDriver, directory: string): Promise<void> {
  return new Promise((resolve, reject) => {
    driver.mount((error) => {
      if (error === null) resolve();
      else
        reject(
          new Error(`cannot mount on ${directory}: ${error.message} (libfuse says why on standard error)`),
        );
    });
  });
}

function processIdentity(): { uid: number; gid: number; pid: number } {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, pid: process.pid };
}
