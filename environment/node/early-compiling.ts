/** When V8 optimises what runs often: sooner than by itself, so that daemons are quick while they are young. */
import { setFlagsFromString } from 'node:v8';

/**
 * Bytes of bytecode that a function runs between two looks at whether it is worth optimising, of which it takes three
 * and more: a quarter of what V8 has. By its own measure a function of ours is optimised after some two thousand
 * requests. With an eighth V8 optimises more than it is worth, some of it twice.
 */
const INTERRUPT_BUDGET_BYTES = 16_384;

/** Newer ones have a compiler in between, and other measures. */
const LAST_NODE_WITHOUT_MAGLEV = 20;

/** To be called once, at the start of the process. */
export function compileEarly(): void {
  if (Number.parseInt(process.versions.node, 10) > LAST_NODE_WITHOUT_MAGLEV) return;
  setFlagsFromString(`--interrupt-budget=${INTERRUPT_BUDGET_BYTES}`);
}
