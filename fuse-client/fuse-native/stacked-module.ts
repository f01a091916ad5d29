import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from '../../environment/ports/index.js';

/** Where scripts/native.mjs puts it, from the directory of package.json. */
const BUILT = 'fuse-client/native-module/build/gfs_module.node';

/**
 * Loads the libfuse module `gfs` (native-module/gfs_module.c), which registers itself with libfuse. For all
 * to see, and before the package: its `fuse_new` has to be found first.
 * @returns false when it is not built or cannot be loaded: the binding then has fewer capabilities
 */
export function loadStackedModule(file: string, logger: Logger): boolean {
  if (!existsSync(file)) {
    logger.info({ file }, 'the libfuse module is not built: no ioctl, no caller identity');
    return false;
  }
  try {
    const { RTLD_LAZY, RTLD_GLOBAL } = constants.dlopen;
    process.dlopen({ exports: {} }, file, RTLD_LAZY | RTLD_GLOBAL);
    return true;
  } catch (err) {
    logger.warn({ err, file }, 'the libfuse module cannot be loaded: no ioctl, no caller identity');
    return false;
  }
}

/** The module beside the sources, wherever the compiled program is below them. */
export function defaultModuleFile(): string {
  let directory = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(directory, 'package.json'))) {
    const parent = path.dirname(directory);
    if (parent === directory) break;
    directory = parent;
  }
  return path.join(directory, BUILT);
}
