/**
 * Making files that are about to be written: where a fresh chunk is ready, the file is logged with it in one
 * record, and its author gets the lease with the answer, two messages fewer than asking for it.
 */
import type { Create, CreateTmpfile, Location } from '../protocol/messages/index.js';
import type { IncomingRequest } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { FreshChunk } from './chunk-pool.js';
import type { Grants } from './grants.js';
import type { CarriedOut, Origin } from './journal.js';
import { isRegular } from './mode.js';
import type { Decision, Mutations, Plan } from './mutations.js';
import type { Namespace } from './namespace.js';

type Made = Pick<ValueOf<typeof Create.reply>, 'attributes' | 'lease'>;

export class Creation {
  readonly #namespace: Namespace;
  readonly #mutations: Mutations;
  readonly #grants: Grants;

  constructor(namespace: Namespace, mutations: Mutations, grants: Grants) {
    this.#namespace = namespace;
    this.#mutations = mutations;
    this.#grants = grants;
  }

  create(
    body: ValueOf<typeof Create.request>,
    request: IncomingRequest,
    origin: Origin,
    near: Location | undefined,
  ): Promise<ValueOf<typeof Create.reply>> {
    const plan = this.#namespace.create(body, request.header);
    return this.#carryOut(plan, body, request, origin, near);
  }

  createTmpfile(
    body: ValueOf<typeof CreateTmpfile.request>,
    request: IncomingRequest,
    origin: Origin,
    near: Location | undefined,
  ): Promise<ValueOf<typeof CreateTmpfile.reply>> {
    const plan = this.#namespace.createTmpfile(body, request.header);
    return this.#carryOut(plan, body, request, origin, near);
  }

  async #carryOut<Reply extends Made>(
    plan: Plan<Reply>,
    body: { readonly parent: number; readonly writes?: boolean | undefined },
    request: IncomingRequest,
    origin: Origin,
    near: Location | undefined,
  ): Promise<Reply> {
    let fresh: FreshChunk | undefined;
    const validate = (): Decision<Reply> => {
      const decision = plan.validate();
      if (body.writes !== true || !('event' in decision)) return decision;
      const { event } = decision;
      if (event.type !== 'tmpfileCreated' && (event.type !== 'created' || !isRegular(event.mode)))
        return decision;
      fresh = this.#grants.takeFresh(body.parent, near);
      if (fresh === undefined) return decision;
      return { event: { ...event, chunk: this.#grants.describeFresh(fresh) } };
    };
    let made: CarriedOut<Reply>;
    let reply: Reply;
    try {
      made = await this.#mutations.carryOut({ locks: plan.locks, validate }, origin, () => request.signal);
      reply = made.reply;
      if (fresh !== undefined)
        reply = { ...reply, lease: this.#grants.beginFresh(reply.attributes.id, fresh) };
    } finally {
      if (fresh !== undefined) this.#grants.settleFresh(fresh);
    }
    if (made.acknowledged !== undefined) await made.acknowledged;
    return reply;
  }
}
