/** A worker's directory in its directory: made, filled, emptied, removed. */
import { Rename, Unlink } from '../../protocol/messages/index.js';
import type { Actor } from './actor.js';
import { DIRECTORY_MODE, type Home } from './home.js';
import type { TrackedDirectory, TrackedFile } from './ledger.js';

export class Subdirectories {
  readonly #actor: Actor;
  readonly #home: Home;

  constructor(actor: Actor, home: Home) {
    this.#actor = actor;
    this.#home = home;
  }

  /** Makes one, moves files into it, takes them out, removes it; and sees that it goes only when it is empty. */
  async use(): Promise<void> {
    const parent = this.#home.directory;
    const [entry] = parent.directories;
    if (entry === undefined) {
      const name = this.#home.newName();
      const make = () => this.#home.make(parent.id, name, DIRECTORY_MODE);
      const id = await this.#home.change('mkdir', [[parent, name]], make);
      if (id !== undefined)
        parent.directories.set(name, this.#home.trackDirectory(id, `${parent.path}/${name}`, parent.goal));
      return;
    }
    const [name, directory] = entry;
    const moves = [() => this.#move(parent, directory), () => this.#move(directory, parent)];
    if (this.#actor.random.chance(0.7)) return this.#actor.random.pick(moves)();
    await this.#removeDirectory(parent, name, directory);
  }

  async #move(from: TrackedDirectory, to: TrackedDirectory): Promise<void> {
    const name = [...from.names.keys()][0];
    if (name === undefined || to.uncertain.has(name)) return;
    const file = from.names.get(name) as TrackedFile;
    const body = { parent: from.id, name, newParent: to.id, newName: name, mode: 'noreplace' as const };
    const move = () => this.#actor.client.master.mutate(Rename, body);
    const done = await this.#home.change(
      'move',
      [
        [from, name],
        [to, name],
      ],
      move,
    );
    if (done === undefined) {
      file.hasUnknownNames = true;
      return;
    }
    from.names.delete(name);
    to.names.set(name, file);
  }

  async #removeDirectory(parent: TrackedDirectory, name: string, directory: TrackedDirectory): Promise<void> {
    const body = { parent: parent.id, name, directory: true };
    const what = `rmdir ${directory.path}`;
    parent.uncertain.add(name);
    directory.gone = true;
    const remove = () => this.#actor.client.master.mutate(Unlink, body);
    const done = await this.#actor.attemptOr(what, ['NOT_EMPTY'], remove);
    if (done === undefined) {
      parent.directories.delete(name);
      return;
    }
    parent.uncertain.delete(name);
    const isEmpty = directory.names.size === 0;
    if (done === 'NOT_EMPTY') {
      directory.gone = false;
      if (isEmpty && directory.uncertain.size === 0) this.#actor.wrong(what, 'it is empty');
      return;
    }
    if (!isEmpty) this.#actor.wrong(what, `${[...directory.names.keys()]} were in it`);
    parent.directories.delete(name);
  }
}
