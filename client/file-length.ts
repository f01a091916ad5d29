/**
 * How long a file is, as its client knows it: what the master told of the newest state of its data, and what was
 * written here that the master has not been told.
 */
import type { Attributes } from '../protocol/messages/index.js';

export class FileLength {
  #bytes: number;
  /** Of the newest state that was told. */
  #version: number;
  /** As that has it. */
  #heardBytes: number;
  /** The end of what was written since the master was last told. */
  #untoldEnd = 0;
  /** And of what of that has arrived. */
  #arrivedEnd = 0;
  /** The end of what it is being told. */
  #tellingEnd = 0;

  constructor(bytes: number, version: number) {
    this.#bytes = bytes;
    this.#heardBytes = bytes;
    this.#version = version;
  }

  get bytes(): number {
    return this.#bytes;
  }

  wrote(end: number): void {
    this.#bytes = Math.max(this.#bytes, end);
    this.#untoldEnd = Math.max(this.#untoldEnd, end);
  }

  arrived(end: number): void {
    this.#arrivedEnd = Math.max(this.#arrivedEnd, end);
  }

  /**
   * Something that was written will not arrive, and alone makes the file no longer. What the master was told
   * already stays: others may have seen it. @param waitingEnd of what is still on its way
   */
  failed(waitingEnd: number): void {
    this.#untoldEnd = Math.min(this.#untoldEnd, Math.max(this.#arrivedEnd, waitingEnd));
    this.#bytes = Math.max(this.#heardBytes, this.#untoldEnd, this.#tellingEnd);
  }

  /** Appends that were counted already did not come about. */
  lost(bytes: number): void {
    this.#bytes = Math.max(0, this.#bytes - bytes);
    this.#untoldEnd = Math.min(this.#untoldEnd, this.#bytes);
  }

  /**
   * The master has told it. Answers may come in another order than the states that they are of.
   * @param isGrowing appends are on their way, whom nobody but us makes: it is at least what we know
   */
  heard({ size, dataVersion = 0 }: Attributes, isGrowing: boolean): void {
    if (dataVersion < this.#version) return;
    this.#version = dataVersion;
    this.#heardBytes = size;
    this.#bytes = Math.max(size, this.#untoldEnd, this.#tellingEnd, isGrowing ? this.#bytes : 0);
  }

  /**
   * What was written here is told now, and nothing else: of what was there before, the master knows whether it
   * still is. @param arrivedBytes without the appends that are on their way
   */
  tell(arrivedBytes: number): number {
    this.#tellingEnd = Math.max(this.#tellingEnd, this.#untoldEnd);
    this.#untoldEnd = 0;
    this.#arrivedEnd = 0;
    return Math.min(arrivedBytes, this.#tellingEnd);
  }

  told(attributes: Attributes, isGrowing: boolean): void {
    this.#tellingEnd = 0;
    this.heard(attributes, isGrowing);
  }

  /** It has to be told again. */
  notTold(): void {
    this.#untoldEnd = Math.max(this.#untoldEnd, this.#tellingEnd);
    this.#arrivedEnd = Math.max(this.#arrivedEnd, this.#tellingEnd);
    this.#tellingEnd = 0;
  }

  /** The master has set it for us. */
  replaced(attributes: Attributes): void {
    this.#untoldEnd = 0;
    this.#arrivedEnd = 0;
    this.#tellingEnd = 0;
    this.heard(attributes, false);
  }
}
