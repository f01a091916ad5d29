import type { MasterOptions } from './options.js';

/** A shadow's own, and those of the master that it becomes when it is promoted. */
export interface ShadowOptions extends MasterOptions {
  /** Where the master may be; tried in turn. */
  readonly masters: readonly { readonly host: string; readonly port: number }[];
}
