import type { Chunkserver } from '../replicas.js';

interface Use {
  incoming: number;
  outgoing: number;
}

/** How many clones each server takes part in. */
export class Slots {
  readonly #uses = new Map<Chunkserver, Use>();
  #total = 0;

  get total(): number {
    return this.#total;
  }

  incoming(chunkserver: Chunkserver): number {
    return this.#uses.get(chunkserver)?.incoming ?? 0;
  }

  outgoing(chunkserver: Chunkserver): number {
    return this.#uses.get(chunkserver)?.outgoing ?? 0;
  }

  /** @returns what gives the places back */
  take(source: Chunkserver, target: Chunkserver): () => void {
    this.#total++;
    this.#add(source, 0, 1);
    this.#add(target, 1, 0);
    return () => {
      this.#total--;
      this.#add(source, 0, -1);
      this.#add(target, -1, 0);
    };
  }

  #add(chunkserver: Chunkserver, incoming: number, outgoing: number): void {
    const use = this.#uses.get(chunkserver) ?? { incoming: 0, outgoing: 0 };
    use.incoming += incoming;
    use.outgoing += outgoing;
    if (use.incoming === 0 && use.outgoing === 0) this.#uses.delete(chunkserver);
    else this.#uses.set(chunkserver, use);
  }
}
