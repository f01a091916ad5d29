/** What `gfs up` keeps where, below its data directory. */
import { join } from 'node:path';

export class Layout {
  readonly root: string;

  /** @param root absolute */
  constructor(root: string) {
    this.root = root;
  }

  get lock(): string {
    return join(this.root, 'up.lock');
  }

  /** Addresses of the parts, gone after an orderly end. */
  get run(): string {
    return join(this.root, 'run');
  }

  get log(): string {
    return join(this.root, 'log');
  }

  /** Who runs the cluster and where it is mounted: for messages, `gfs down`, and tidying up after a crash. */
  get state(): string {
    return join(this.run, 'up.json');
  }

  dataOf(part: string): string {
    return join(this.root, part);
  }

  /** The name of a part, of which there may be several. */
  shadow(index: number): string {
    return `shadow-${index}`;
  }

  addressFileOf(part: string): string {
    return join(this.run, `${part}.json`);
  }

  logOf(part: string): string {
    return join(this.log, `${part}.log`);
  }
}
