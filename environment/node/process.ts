/** The life of a daemon's process: start, address file, metrics page, signals, the end. For the roles' main.ts. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Environment } from '../ports/index.js';
import { compileEarly } from './early-compiling.js';

export interface ProcessOptions {
  /** Written after the start: JSON `{ pid, host, port, metricsPort }`, what there is of them. Removed at an orderly end. */
  readonly addressFile?: string | undefined;
  readonly logLevel: string;
  readonly logFile?: string | undefined;
  /** Where GET /metrics is answered, on all addresses; 0 for a free port. */
  readonly metricsPort?: number | undefined;
}

/** A master, a chunkserver, a mount. */
export interface Daemon {
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Where it listens, once it has started. */
  readonly address?: { readonly host: string; readonly port: number } | undefined;
  /** Resolves when it ends by itself (a mount that somebody unmounts); the process then ends as by SIGTERM. */
  readonly ended?: Promise<void> | undefined;
}

/** EX_SOFTWARE of sysexits.h: a broken invariant, not an operating error. */
const EXIT_SOFTWARE = 70;
const ALIVE_INTERVAL_MS = 1000;
const SIGNALS = ['SIGTERM', 'SIGINT'] as const;
const SIGNAL_NUMBERS = { SIGTERM: 15, SIGINT: 2 } as const;

/**
 * Runs a daemon until SIGTERM or SIGINT, then stops it and ends the process with 0. A second signal
 * ends it at once.
 * @throws what the daemon's start throws: the caller tells the user
 */
export async function runDaemon(
  environment: Environment,
  daemon: Daemon,
  options: ProcessOptions,
): Promise<void> {
  compileEarly();
  const { logger } = environment;
  process.on('uncaughtException', (err, origin) => {
    logger.error({ err, origin }, 'broken invariant, ending the process');
    process.exit(EXIT_SOFTWARE);
  });
  // A signal during the start counts too: the handlers are there before it.
  const signalled = nextSignal();
  await daemon.start();
  const metrics = await announce(environment, daemon, options);
  tellSupervisor();
  const reason = await Promise.race([signalled, ...(daemon.ended === undefined ? [] : [daemon.ended])]);
  logger.info({ signal: reason ?? 'none' }, 'stopping');
  await daemon.stop();
  metrics?.close();
  if (options.addressFile !== undefined) removeAddress(options.addressFile);
  process.exit(0);
}

/** @throws why nobody could be told: the daemon has been stopped then, for nobody would know of it */
async function announce(
  environment: Environment,
  daemon: Daemon,
  { metricsPort, addressFile }: ProcessOptions,
): Promise<Server | undefined> {
  let metrics: Server | undefined;
  try {
    if (metricsPort !== undefined) metrics = await serveMetrics(environment, metricsPort);
    if (addressFile !== undefined) writeAddress(addressFile, daemon, metrics);
    return metrics;
  } catch (error) {
    metrics?.close();
    await daemon.stop();
    throw error;
  }
}

/** Where the process was started by somebody who listens (cli/mount-supervisor.ts), that it lives. */
function tellSupervisor(): void {
  if (process.send === undefined) return;
  // The supervisor may go before us: then nobody listens any more.
  process.on('error', () => undefined);
  const tell = (): void => {
    if (process.connected) process.send?.('alive', undefined, undefined, () => undefined);
  };
  tell();
  setInterval(tell, ALIVE_INTERVAL_MS).unref();
  process.channel?.unref();
}

function nextSignal(): Promise<string> {
  return new Promise((resolve) => {
    let seen = false;
    for (const signal of SIGNALS) {
      process.on(signal, () => {
        if (seen) process.exit(128 + SIGNAL_NUMBERS[signal]);
        seen = true;
        resolve(signal);
      });
    }
  });
}

/** Atomically: who waits for the file never reads half of it. */
function writeAddress(path: string, daemon: Daemon, metrics: Server | undefined): void {
  const metricsPort = (metrics?.address() as AddressInfo | undefined)?.port;
  const address = { pid: process.pid, ...daemon.address, metricsPort };
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(address)}\n`);
  renameSync(temporary, path);
}

/** Unless a successor has written its own by now. */
function removeAddress(path: string): void {
  try {
    const { pid } = JSON.parse(readFileSync(path, 'utf8')) as { pid?: unknown };
    if (pid === process.pid) rmSync(path, { force: true });
  } catch {
    // It is gone or not ours: nothing to take back.
  }
}

function serveMetrics(environment: Environment, port: number): Promise<Server> {
  const server = createServer(async (request, response) => {
    if (request.method !== 'GET' || request.url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    try {
      const page = await environment.metrics.expose();
      response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(page);
    } catch (err) {
      environment.logger.error({ err }, 'cannot collect the metrics');
      response.writeHead(500).end();
    }
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, () => resolve(server));
  });
}
