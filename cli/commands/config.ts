/** `gfs config check`, `gfs config show`. */
import { loadConfiguration, showConfiguration } from '../config/load.js';
import { type ConfigurationFlags, loadWith } from '../flags.js';
import { print, printJson } from '../output.js';

/** The file by itself: what the environment of this shell sets does not make it right or wrong. */
export function check(file: string): void {
  loadConfiguration({ file });
  print(`${file}: right`);
}

export async function show(flags: ConfigurationFlags & { readonly json?: boolean }): Promise<void> {
  const loaded = await loadWith(flags);
  if (flags.json === true) printJson(loaded.configuration);
  else process.stdout.write(showConfiguration(loaded));
}
