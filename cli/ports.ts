/** A TCP port that is wanted: whether it can be had, and what to tell when it cannot. */
import { createServer } from 'node:net';
import { codeOf, Failure } from './failure.js';
import { listenerOn } from './processes.js';

/**
 * Finds out before a program is started in vain.
 * @param change how the user chooses another one
 * @throws Failure
 */
export async function checkPort(host: string, port: number, change: string): Promise<void> {
  if (port === 0) return;
  const error = await tryToListen(host, port);
  if (error !== undefined) throw listenFailure(host, port, error, change);
}

function tryToListen(host: string, port: number): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    server.listen(port, host, () => server.close(() => resolve(undefined)));
  });
}

/** What to tell when listening failed. */
export function listenFailure(host: string, port: number, error: unknown, change: string): Failure {
  const code = codeOf(error);
  const place = `${host}:${port}`;
  if (code === 'EADDRINUSE') {
    const listener = listenerOn(port);
    const who = listener === undefined ? '' : ` by process ${listener.pid} (${listener.command})`;
    return new Failure(
      `port ${port} on ${host} is in use${who}`,
      `End that, or choose another port: ${change}.`,
    );
  }
  if (code === 'EADDRNOTAVAIL') {
    return new Failure(`cannot listen on ${place}: this host does not have that address`, 'See: ip address');
  }
  if (code === 'EACCES') {
    return new Failure(
      `cannot listen on ${place}: ports below 1024 are for root`,
      `Choose another: ${change}.`,
    );
  }
  return new Failure(`cannot listen on ${place}: ${(error as Error).message}`);
}
