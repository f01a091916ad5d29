/** `gfs priorities`: which chunkservers each client is sent to first, and why. */
import { type ClientPriorities, GetPriorities } from '../../protocol/messages/index.js';
import { Failure, UsageFailure } from '../failure.js';
import { caller, type MasterFlags, withMaster } from '../master-session.js';
import { bytes, print, printJson } from '../output.js';
import { table } from '../table.js';

export interface PrioritiesFlags extends MasterFlags {
  readonly weights?: string;
  readonly json?: boolean;
}

export async function priorities(client: string | undefined, flags: PrioritiesFlags): Promise<void> {
  const weights = flags.weights === undefined ? {} : weightsOf(flags.weights);
  await withMaster(flags, [], async (master) => {
    const request = { ...weights, ...(client === undefined ? {} : { client }) };
    const answer = await master.query(GetPriorities, request, caller());
    // This command is a client too, of no interest where there are others.
    const others = answer.clients.filter(({ clientId }) => clientId !== master.clientId);
    const clients = others.length > 0 ? others : answer.clients;
    if (client !== undefined && clients.length === 0)
      throw new Failure(`${client}: no such client is connected`, 'All that are: gfs priorities');
    const { distanceWeight, spaceWeight } = answer;
    if (flags.json === true) return printJson({ distanceWeight, spaceWeight, clients });
    print(`score = ${distanceWeight} × distance share + ${spaceWeight} × used share, lowest first`);
    for (const each of clients) print(`\n${headOf(each)}\n${tableOf(each)}`);
  });
}

/** @throws UsageFailure */
function weightsOf(text: string): { distanceWeight: number; spaceWeight: number } {
  const [distanceWeight, spaceWeight, more] = text
    .split(',')
    .map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  const isWeight = (weight: number | undefined): weight is number =>
    weight !== undefined && Number.isFinite(weight) && weight >= 0;
  if (isWeight(distanceWeight) && isWeight(spaceWeight) && more === undefined)
    return { distanceWeight, spaceWeight };
  throw new UsageFailure(
    `--weights ${text}: not two numbers of 0 or more`,
    'As in: gfs priorities --weights 0.6,0.4',
  );
}

function headOf({ clientId, hostname, location, rack }: ClientPriorities): string {
  const where = location === undefined ? 'no coordinates' : `at ${location.x},${location.y}`;
  return `${hostname} ${clientId}, ${where}${rack === undefined ? '' : `, rack ${rack}`}`;
}

function tableOf({ servers }: ClientPriorities): string {
  if (servers.length === 0) return 'No chunkserver is active.';
  const rows = servers.map(({ serverId, distance, availableBytes, usedShare, score }) => [
    serverId,
    String(Number(distance.toFixed(3))),
    bytes(availableBytes),
    `${Math.round(usedShare * 100)} %`,
    score.toFixed(3),
  ]);
  return table(['SERVER', 'DISTANCE', 'FREE', 'USED', 'SCORE'], rows, [1, 2, 3, 4]);
}
