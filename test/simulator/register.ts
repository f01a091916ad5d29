/** A value that is set again and again, by one client at a time: what may be seen of it, and when. */
export class Register<T> {
  /** Begun, the oldest first; what is before the last that was acknowledged is gone. */
  readonly #values: T[];
  #acknowledged = 0;
  /** Set without an answer: it may come to pass at any time. */
  readonly #lingering = new Set<T>();

  constructor(value: T) {
    this.#values = [value];
  }

  /** It is being set. @returns to be called when that was acknowledged */
  begin(value: T): () => void {
    const index = this.#values.push(value) - 1;
    this.#lingering.add(value);
    return () => {
      this.#lingering.delete(value);
      this.#acknowledged = index;
    };
  }

  /** Somebody begins to look. @returns whether a value may be what is seen then, to be asked afterwards */
  watch(): (seen: T) => boolean {
    const from = this.#acknowledged;
    const lingering = new Set(this.#lingering);
    return (seen) => lingering.has(seen) || this.#values.includes(seen, from);
  }

  /** What a copy may have that was being made while this was not being set. */
  clone(): Register<T> {
    const copy = new Register(this.#values[this.#acknowledged] as T);
    for (const value of this.#lingering) copy.#lingering.add(value);
    return copy;
  }
}
