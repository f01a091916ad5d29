/** `gfs mount`: a session with the master, the file system on it, a binding that mounts it. */
import { GfsClient } from '../client/index.js';
import { nodeEnvironment } from '../environment/node/index.js';
import { type Daemon, type ProcessOptions, runDaemon } from '../environment/node/process.js';
import type { Environment, Timer } from '../environment/ports/index.js';
import { withDotGfs } from './dot-gfs/index.js';
import { fuseNativeBinding } from './fuse-native/index.js';
import { keepGauges } from './gauges.js';
import { GfsHandler } from './gfs-handler.js';
import type { Mount } from './handler.js';
import { kernelBinding } from './kernel/index.js';
import type { MountProgramOptions } from './options.js';

class MountDaemon implements Daemon {
  readonly ended: Promise<void>;
  readonly #environment: Environment;
  readonly #options: MountProgramOptions;
  #noteEnded!: () => void;
  #client: GfsClient | undefined;
  #mount: Mount | undefined;
  #handler: GfsHandler | undefined;
  #gauges: Timer | undefined;

  constructor(environment: Environment, options: MountProgramOptions) {
    this.#environment = environment;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#noteEnded = resolve;
    });
  }

  /** @throws what the user has to be told: no master, no such directory, why the mount failed */
  async start(): Promise<void> {
    const { binding, client, directory, source } = this.#options;
    const environment = this.#environment;
    this.#client = await GfsClient.connect(environment, { ...client, caches: true });
    try {
      const handler = await GfsHandler.create(environment, this.#client, this.#options);
      const chosen =
        binding === 'kernel'
          ? kernelBinding(environment, {
              acls: this.#options.acls,
              locks: true,
              // Nothing but a signal would end a wait for ever.
              asyncDirectIo: !client.hard,
            })
          : fuseNativeBinding(environment);
      const identity = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, pid: process.pid };
      const served = withDotGfs(handler, environment, this.#client, this.#options, identity, handler.rootId);
      this.#mount = await chosen.mount(served, this.#options);
      handler.attach(this.#mount);
      this.#handler = handler;
      this.#gauges = keepGauges(environment, this.#client);
    } catch (error) {
      await this.#client.shutdown();
      throw error;
    }
    void this.#mount.unmounted.then(this.#noteEnded);
    environment.logger.info({ directory, source, binding }, 'mounted');
  }

  /** Detaches the mount, sends what is still on its way, ends the session. */
  async stop(): Promise<void> {
    await this.#mount?.unmount();
    this.#gauges?.cancel();
    await this.#handler?.settle();
    await this.#client?.shutdown();
  }
}

/** Runs a mount until it is unmounted or signalled. */
export async function runMount(options: MountProgramOptions, processOptions: ProcessOptions): Promise<void> {
  const environment = nodeEnvironment({ role: 'mount', ...processOptions });
  await runDaemon(environment, new MountDaemon(environment, options), processOptions);
}
