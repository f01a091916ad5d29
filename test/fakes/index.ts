/**
 * The ports inside one process, seeded: `const world = new SimulatedWorld(seed)`, then
 * `world.process('a').environment`, and `await world.until(promise)` to let time pass.
 */
export { FakeDisk } from './disk.js';
export { FakeHost, FakeProcess, type HostOptions } from './host.js';
export { FakeLogger, formatLine, LogBook, type LogLine } from './logger.js';
export { FakeMetrics } from './metrics.js';
export { FakeNetwork } from './network.js';
export { FakeRandom } from './random.js';
export { Scheduler, SimulationStuck } from './scheduler.js';
export { type ProcessFailure, SimulatedWorld } from './world.js';
