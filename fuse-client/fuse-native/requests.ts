import type { Logger } from '../../environment/ports/index.js';
import { toGfsError } from '../../protocol/errors.js';
import type { ByteString, Context } from '../handler.js';
import type { Codec } from './codec.js';

/**
 * Runs requests for the library: each is answered exactly once, whatever happens, and nothing is ever
 * thrown into it (that would end the process, and with it the mount).
 */
export class Requests {
  readonly #codec: Codec;
  readonly #logger: Logger;
  /** As many as library threads wait, one for each system call on the mount. */
  readonly #active = new Set<AbortController>();
  #idle: (() => void) | undefined;

  constructor(codec: Codec, logger: Logger) {
    this.#codec = codec;
    this.#logger = logger;
  }

  /**
   * @param path as the package gave it
   * @param fail called with the negative errno
   */
  run<T>(
    path: string,
    body: (context: Context, path: ByteString) => Promise<T>,
    succeed: (value: T) => void,
    fail: (result: number) => void,
  ): void {
    const controller = new AbortController();
    this.#active.add(controller);
    const start = async (): Promise<T> => {
      const decoded = this.#codec.path(path);
      return body({ ...decoded.caller, signal: controller.signal }, decoded.path);
    };
    const end = () => {
      this.#active.delete(controller);
      if (this.#active.size === 0) this.#idle?.();
    };
    start()
      .then(succeed, (thrown: unknown) => fail(this.#errnoOf(thrown)))
      .finally(end);
  }

  /** Resolves when no request is under way. */
  async settled(): Promise<void> {
    while (this.#active.size > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
  }

  /** Tells what is under way to end soon, with EINTR. */
  abort(): void {
    for (const controller of this.#active) controller.abort();
  }

  #errnoOf(thrown: unknown): number {
    const error = toGfsError(thrown);
    if (error.code === 'INTERNAL') this.#logger.error({ err: thrown }, 'a request failed unexpectedly');
    return -error.errnoNumber;
  }
}
