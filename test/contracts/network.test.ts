import t from 'tap';
import { NodeNetwork } from '../../environment/node/network.js';
import type { Logger } from '../../environment/ports/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { networkContract } from './network.contract.js';

const { logger } = new SimulatedWorld().process('log').environment as { logger: Logger };

networkContract(t, 'node network', async () => ({
  server: new NodeNetwork(logger),
  client: new NodeNetwork(logger),
  host: '127.0.0.1',
  run: (test) => test(),
}));

let seed = 0;
for (const layout of ['one host', 'two hosts'] as const) {
  networkContract(t, `fake network, ${layout}`, async () => {
    const world = new SimulatedWorld(seed++);
    const server = world.process('server');
    const client = layout === 'one host' ? server.host.start('client') : world.process('client');
    return {
      server: server.environment.network,
      client: client.environment.network,
      host: 'server',
      run: (test) => world.until(test()),
    };
  });
}
