import type { Disk } from '../../environment/ports/index.js';
import type { DataDirectory, DirectoryContext } from './data-directory.js';
import { WatchedDisk } from './watched-disk.js';

/** One of the server's disks: in use, or given up after an error that was the device's. */
export class DiskSlot {
  readonly root: string;
  /** What the directory on it works with. */
  readonly context: DirectoryContext;
  directory: DataDirectory | undefined;
  failure: Error | undefined;
  /** Told once, when it fails after its server has started. */
  onFailed: ((slot: DiskSlot, error: Error) => void) | undefined;

  constructor(context: DirectoryContext, root: string) {
    this.root = root;
    const fail = (error: Error): void => this.fail(error);
    const disk: Disk = new WatchedDisk(context.disk, context.clock, fail);
    this.context = { ...context, disk, onFatal: fail };
  }

  /** Nothing of it counts any more: its chunks are not this server's from here on. */
  fail(error: Error): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    this.onFailed?.(this, error);
  }
}
