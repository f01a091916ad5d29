/** One user of the file system: makes, writes, reads, renames, links and removes files of its own, and reads others'. */
import { GetXattr, Link, RemoveXattr, SetGoal, SetXattr } from '../../protocol/messages/index.js';
import type { FakeRandom } from '../fakes/index.js';
import { Actor, type ClientContext } from './actor.js';
import { Contents } from './contents.js';
import { Deletions } from './deletions.js';
import { FileModel } from './file-model.js';
import { Guest } from './guest.js';
import { FILE_MODE, Home } from './home.js';
import type { TrackedDirectory, TrackedFile } from './ledger.js';
import { DEFAULT_GOAL, GOALS } from './shape.js';
import { Snapshots } from './snapshots.js';
import { Subdirectories } from './subdirectories.js';

const XATTRS = ['user.one', 'user.two'] as const;

export class Worker {
  readonly #actor: Actor;
  readonly #contents: Contents;
  readonly #guest: Guest;
  readonly #home: Home;
  readonly #deletions: Deletions;
  readonly #snapshots: Snapshots;
  readonly #subdirectories: Subdirectories;
  #values = 0;

  constructor(context: ClientContext, name: string, random: FakeRandom) {
    this.#actor = new Actor(context, name, random);
    this.#guest = new Guest(this.#actor);
    this.#contents = new Contents(this.#actor, this.#guest);
    this.#home = new Home(this.#actor);
    this.#deletions = new Deletions(this.#actor, this.#home, this.#contents);
    this.#snapshots = new Snapshots(this.#actor, this.#home, this.#contents);
    this.#subdirectories = new Subdirectories(this.#actor, this.#home);
  }

  async run(): Promise<void> {
    const { random, ledger } = this.#actor;
    const contents = this.#contents;
    await this.#home.settle();
    const steps: readonly [weight: number, step: () => Promise<void>][] = [
      [10, () => this.#create()],
      [40, () => this.#edit()],
      [8, () => this.#editOther()],
      [24, () => this.#guest.look()],
      [12, () => contents.append()],
      [6, () => contents.readAppended()],
      [5, () => this.#deletions.rename()],
      [3, () => this.#link()],
      [5, () => this.#deletions.unlink()],
      [4, () => this.#deletions.undelete()],
      [5, () => this.#snapshots.ofFile()],
      [2, () => this.#snapshots.ofTree()],
      [4, () => this.#changeXattr()],
      [2, () => this.#changeGoal()],
      [3, () => this.#subdirectories.use()],
    ];
    const deck = steps.flatMap(([weight, step]) => new Array<() => Promise<void>>(weight).fill(step));
    while (!ledger.stopping) {
      await this.#actor.pause(40);
      await random.pick(deck)();
    }
  }

  async #create(): Promise<void> {
    const directory = this.#home.directory;
    if (this.#home.isFull) return this.#deletions.unlink();
    const name = this.#home.newName();
    const make = () => this.#home.make(directory.id, name, FILE_MODE);
    const id = await this.#home.change('create', [[directory, name]], make);
    if (id !== undefined) this.#home.track(directory, name, { id, model: new FileModel() });
  }

  async #edit(): Promise<void> {
    const file = this.#home.pickFile();
    if (file !== undefined) await this.#contents.edit(file);
  }

  /** What another client made and wrote before is written on here. */
  async #editOther(): Promise<void> {
    const file = this.#guest.pick();
    if (file !== undefined) await this.#contents.edit(file);
  }

  async #link(): Promise<void> {
    const directory = this.#home.directory;
    const file = this.#home.pickFile();
    if (file === undefined || this.#home.isFull) return;
    const name = this.#home.newName();
    const body = { id: file.id, parent: directory.id, name };
    // Before the answer: if there is none it may have a name more, never one less than is counted.
    file.names++;
    const link = () => this.#actor.client.master.mutate(Link, body);
    const done = await this.#home.change('link', [[directory, name]], link);
    if (done !== undefined) directory.names.set(name, file);
    else {
      file.names--;
      file.hasUnknownNames = true;
    }
  }

  async #changeXattr(): Promise<void> {
    const { random, client } = this.#actor;
    const file = this.#home.pickFile();
    if (file === undefined || file.seal !== undefined) return;
    const name = random.pick(XATTRS);
    const before = file.xattrs.get(name);
    const what = `xattr ${name} of ${file.path}`;
    if (before !== undefined && random.chance(0.5)) {
      const get = () => client.master.query(GetXattr, { id: file.id, name });
      const found = await this.#actor.attempt(`get ${what}`, get);
      const value = found === undefined ? before : Buffer.from(found.value).toString();
      if (value !== before) this.#actor.wrong(what, `is ${value}, it was set to ${before}`);
      return;
    }
    file.xattrs.delete(name);
    if (before !== undefined && random.chance(0.3)) {
      await this.#actor.attempt(`remove ${what}`, () =>
        client.master.mutate(RemoveXattr, { id: file.id, name }),
      );
      return;
    }
    const value = `value ${++this.#values}`;
    const body = { id: file.id, name, value: Buffer.from(value), mode: 'either' as const };
    const done = await this.#actor.attempt(`set ${what}`, () => client.master.mutate(SetXattr, body));
    if (done !== undefined) file.xattrs.set(name, value);
  }

  /** Of a file, or of what is made in the directory from then on. */
  async #changeGoal(): Promise<void> {
    const { random, client } = this.#actor;
    const directory = this.#home.directory;
    const target: TrackedFile | TrackedDirectory | undefined = random.chance(0.2)
      ? directory
      : this.#home.pickFile();
    if (target === undefined) return;
    const goal = random.pick(GOALS);
    const done = target.goal.begin(goal ?? DEFAULT_GOAL);
    const body = { ids: [target.id], ...(goal === undefined ? {} : { goal }) };
    const what = `goal ${goal} of ${target.path}`;
    // Where fewer servers than that are connected.
    const reply = await this.#actor.attemptOr(what, ['INVALID'], () => client.master.mutate(SetGoal, body));
    if (typeof reply !== 'object') return;
    if (reply.count !== 1) this.#actor.wrong(what, 'it was passed over');
    done();
  }
}
