import type { Environment, Timer } from '../../environment/ports/index.js';
import type { Capability, Mount } from '../handler.js';
import { detach, type MountedFilesystem, mountedOn, mountTable } from './mount-table.js';
import type { PackageDriver } from './package.js';
import type { PathFiles } from './path-files.js';
import type { Requests } from './requests.js';

/** The package does not say when the mount has ended, and Node cannot poll the mount table. */
const WATCH_INTERVAL_MS = 500;
/** How long requests under way may go on after the mount is detached, before they are told to end. */
const DRAIN_MS = 2000;
/** How long they then have, before they are left behind: nothing may keep a mount from ending. */
const ABORT_MS = 2000;

interface Parts {
  readonly driver: PackageDriver;
  readonly directory: string;
  readonly files: PathFiles;
  readonly requests: Requests;
  readonly capabilities: ReadonlySet<Capability>;
}

/** A file system that the package has mounted. */
export class NativeMount implements Mount {
  readonly capabilities: ReadonlySet<Capability>;
  readonly unmounted: Promise<void>;
  readonly #environment: Environment;
  readonly #parts: Parts;
  readonly #entry: MountedFilesystem;
  readonly #watch: Timer;
  #resolveUnmounted!: () => void;
  #unmounting: Promise<void> | undefined;

  /** @throws an Error when it is not in the mount table */
  static async watch(environment: Environment, parts: Parts): Promise<NativeMount> {
    const entry = await mountedOn(parts.directory);
    if (entry === undefined) throw new Error(`${parts.directory} was unmounted at once`);
    return new NativeMount(environment, parts, entry);
  }

  private constructor(environment: Environment, parts: Parts, entry: MountedFilesystem) {
    this.capabilities = parts.capabilities;
    this.#environment = environment;
    this.#parts = parts;
    this.#entry = entry;
    this.unmounted = new Promise((resolve) => {
      this.#resolveUnmounted = resolve;
    });
    this.#watch = environment.timers.every(WATCH_INTERVAL_MS, () => {
      this.#look().catch((err: unknown) =>
        environment.logger.error({ err }, 'the mount table cannot be read'),
      );
    });
  }

  unmount(): Promise<void> {
    this.#unmounting ??= this.#end(true);
    return this.#unmounting;
  }

  /** Notices an unmount that came from outside. */
  async #look(): Promise<void> {
    if (this.#unmounting !== undefined || (await this.#isMounted())) return;
    this.#unmounting ??= this.#end(false);
    await this.#unmounting;
  }

  async #isMounted(): Promise<boolean> {
    return (await mountTable()).some(({ key }) => key === this.#entry.key);
  }

  async #end(detachFirst: boolean): Promise<void> {
    const { driver, directory, files } = this.#parts;
    this.#watch.cancel();
    if (detachFirst && (await this.#isMounted())) await detach(directory);
    await freeDriver(driver);
    this.#resolveUnmounted();

    await this.#drain();
    const { signal } = new AbortController();
    await files.close({ uid: 0, gid: 0, pid: 0, signal });
  }

  async #drain(): Promise<void> {
    const { timers, logger } = this.#environment;
    const { requests } = this.#parts;
    let giveUp: Timer | undefined;
    const patience = new Promise<void>((resolve) => {
      giveUp = timers.after(DRAIN_MS + ABORT_MS, () => {
        logger.warn({ directory: this.#parts.directory }, 'unmounted, but some requests do not end');
        resolve();
      });
    });
    const abort = timers.after(DRAIN_MS, () => requests.abort());
    await Promise.race([requests.settled(), patience]);
    abort.cancel();
    giveUp?.cancel();
  }
}

/** The package then no longer keeps the process from ending. */
function freeDriver(driver: PackageDriver): Promise<void> {
  return new Promise((resolve, reject) => {
    driver.unmount((error) => (error === null ? resolve() : reject(error)));
  });
}
