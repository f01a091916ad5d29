import t from 'tap';
import { SimulatedWorld } from '../fakes/index.js';
import { ChunkModel, contentOf, mutateAll, openStore } from './store-model.js';

t.setTimeout(600_000);

const SEEDS = Number(process.env.GFS_SEEDS ?? 20);
const FIRST_SEED = Number(process.env.GFS_SEED ?? 1);
const ROUNDS = 3;

/** Crashes a store at a random moment, a few times over, and looks at what is there afterwards. */
async function crashTest(seed: number, how: 'kill' | 'host'): Promise<string | undefined> {
  const world = new SimulatedWorld(seed);
  const random = world.random.fork('test');
  const host = world.host('a');
  const models = [new ChunkModel(1), new ChunkModel(2), new ChunkModel(257)];
  let process = host.start('chunkserver');
  let store = await world.until(openStore(process));
  for (let round = 0; round < ROUNDS; round++) {
    const work = mutateAll(store, models, random, 30);
    work.catch((error: unknown) => process.fail(error));
    await world.runFor(random.between(0, 60));
    if (process.failure !== undefined) return `seed ${seed}: ${(process.failure as Error).stack}`;
    if (how === 'kill') process.crash();
    else {
      host.crash();
      host.boot();
    }
    process = host.start('chunkserver');
    try {
      store = await world.until(openStore(process));
    } catch (error) {
      return `seed ${seed} round ${round}: cannot start: ${(error as Error).stack}`;
    }
    for (const model of models) {
      const chunk = store.find(model.handle);
      if (chunk === undefined && model.acknowledged > 0 && how === 'kill') return `seed ${seed}: chunk lost`;
      if (chunk === undefined && model.synced > 0) return `seed ${seed}: synced chunk lost`;
      try {
        const content = chunk === undefined ? Buffer.alloc(0) : await world.until(contentOf(chunk));
        const explained = how === 'kill' ? model.explainsKill(content) : model.explainsHostCrash(content);
        if (!explained) {
          const { acknowledged, synced, states } = model;
          const about = `${content.byteLength} bytes, acknowledged ${acknowledged}, synced ${synced} of ${states.length - 1}`;
          return `seed ${seed} round ${round}: chunk ${model.handle}: ${about}`;
        }
        if (how === 'host' && chunk !== undefined && model.acknowledged > 0 && !chunk.state.suspect) {
          return `seed ${seed} round ${round}: chunk ${model.handle} was being mutated and is not suspect`;
        }
        model.restart(content);
      } catch (error) {
        return `seed ${seed} round ${round}: chunk ${model.handle}: ${(error as Error).message}`;
      }
    }
  }
  return undefined;
}

for (const how of ['kill', 'host'] as const) {
  const promise =
    how === 'kill'
      ? 'everything acknowledged is there'
      : 'everything synced is there, and nothing is called corrupt';
  t.test(
    `store: ${how === 'kill' ? 'kill -9' : 'host crash'} at any moment: ${promise}`,
    { timeout: 600_000 },
    async (t) => {
      for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
        const failure = await crashTest(seed, how);
        if (failure !== undefined) t.fail(failure);
      }
      t.pass(`${SEEDS} seeds`);
    },
  );
}
