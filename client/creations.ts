/** Whether a file that is made now will be written to, judged by those made before. */

/** Of how many the judgement is made, about. */
const MEMORY = 8;
const LIKELY = 0.6;

export class Creations {
  #writtenShare = 1;

  /** A chunk that nobody writes to is a waste; an empty file is made without. */
  get areWritten(): boolean {
    return this.#writtenShare >= LIKELY;
  }

  /** One that was made here has been closed. */
  note(wasWritten: boolean): void {
    this.#writtenShare += ((wasWritten ? 1 : 0) - this.#writtenShare) / MEMORY;
  }
}
