/** The names of one worker: its own directory and what is in it, as far as it knows. */
import { Create, ROOT_ID } from '../../protocol/messages/index.js';
import type { Actor } from './actor.js';
import { type TrackedDirectory, type TrackedFile, Violation } from './ledger.js';
import { Register } from './register.js';
import { DEFAULT_GOAL } from './shape.js';

export const DIRECTORY_MODE = 0o040755;
export const FILE_MODE = 0o100644;
const MAX_FILES = 8;

export class Home {
  readonly #actor: Actor;
  directory!: TrackedDirectory;
  #nextName = 1;

  constructor(actor: Actor) {
    this.#actor = actor;
  }

  get isFull(): boolean {
    return this.directory.names.size >= MAX_FILES;
  }

  /** Where all that follows is. */
  async settle(): Promise<void> {
    for (let tries = 1; ; tries++) {
      const name = `${this.#actor.name}-${tries}`;
      const make = () => this.make(ROOT_ID, name, DIRECTORY_MODE);
      const id = await this.#actor.attempt(`mkdir ${name}`, make);
      if (id === undefined) continue;
      this.directory = this.trackDirectory(id, `/${name}`, new Register(DEFAULT_GOAL));
      return;
    }
  }

  /** @param goal of what it was made in or copied from */
  trackDirectory(id: number, path: string, goal: Register<number>): TrackedDirectory {
    const directory = {
      id,
      path,
      names: new Map(),
      directories: new Map(),
      uncertain: new Set<string>(),
      gone: false,
      goal: goal.clone(),
    };
    this.#actor.ledger.directories.push(directory);
    return directory;
  }

  async make(parent: number, name: string, mode: number): Promise<number> {
    const body = { parent, name, mode, rdev: 0, exclusive: true };
    const { attributes, created } = await this.#actor.client.master.mutate(Create, body);
    if (!created) throw new Violation(`${this.#actor.name}: exclusive create of ${name} found it made`);
    return attributes.id;
  }

  /** Changes names; until its outcome is known they are uncertain. @returns undefined when it has failed, or one of `answers` */
  async change<T, Code extends string = never>(
    what: string,
    names: readonly (readonly [directory: TrackedDirectory, name: string])[],
    run: () => Promise<T>,
    answers: readonly Code[] = [],
  ): Promise<T | Code | undefined> {
    for (const [{ uncertain }, name] of names) uncertain.add(name);
    const told = names.map(([{ path }, name]) => `${path}/${name}`).join(' ');
    const result = await this.#actor.attemptOr(`${what} ${told}`, answers, run);
    for (const [directory, name] of names) {
      if (result !== undefined) directory.uncertain.delete(name);
      else directory.names.delete(name);
    }
    return result;
  }

  track(
    directory: TrackedDirectory,
    name: string,
    file: Pick<TrackedFile, 'id' | 'model'> & Partial<TrackedFile>,
  ) {
    const tracked: TrackedFile = {
      path: `${directory.path}/${name}`,
      client: this.#actor.context.name,
      xattrs: new Map(),
      seal: undefined,
      names: 1,
      mode: new Register(FILE_MODE & 0o777),
      isChangingMode: false,
      editor: undefined,
      lastEditor: this.#actor.context.name,
      frozen: false,
      gone: false,
      hasUnknownNames: false,
      goal: directory.goal.clone(),
      ...file,
    };
    directory.names.set(name, tracked);
    this.#actor.ledger.files.push(tracked);
    return tracked;
  }

  pickName(): string | undefined {
    const names = [...this.directory.names.keys()];
    return names.length === 0 ? undefined : this.#actor.random.pick(names);
  }

  pickFile(): TrackedFile | undefined {
    const name = this.pickName();
    return name === undefined ? undefined : this.directory.names.get(name);
  }

  newName(): string {
    return `f${this.#nextName++}`;
  }

  /** One name less; without any it is gone. Also where the outcome is not known: it may be. */
  loseName(file: TrackedFile): void {
    if (--file.names <= 0) file.gone = true;
  }
}
