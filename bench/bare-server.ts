/**
 * Serves reads and adds of domains as a bare Fastify server does: one handler a route, and SQL through `pg`. It sends
 * the statements of the product and gives its answers, without anything else of it.
 */
import { createHash } from 'node:crypto';
import { Logger } from '@nestjs/common';
import { fastify } from 'fastify';
import { Pool, type PoolClient } from 'pg';
import { Accounts } from '@app/accounts';
import { DomainCommandHandler } from '@app/commands';
import { checkTimes, RequestedLooks } from '@app/cycle';
import { openPool } from '@app/database';
import { EventStore } from '@app/event-store';
import { AddDomain, CompleteProvisioning } from '@app/mail-domain';
import { presentDomain } from '@app/presentation';
import { domainsProjection, DomainsReadModel, StoredShards, type DomainView } from '@app/read-model';
import { newId } from '@app/runtime';

/** What whoever loads a server has to know of it. */
export interface Serving {
  readonly origin: string;
  readonly key: string;
}

const cycleMs = 21_600_000;

const provisioned = {
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
  sesDkimStatus: 'pending' as const,
};

/** A statement of the product, with the values of the time when it was recorded. */
interface Statement {
  readonly name: string;
  readonly text: string;
  readonly values: readonly unknown[];
}

/** The statements of the product for what the bare server does. */
interface Statements {
  readonly authenticate: Statement;
  readonly holder: Statement;
  readonly shard: Statement;
  readonly stream: Statement;
  readonly added: Statement;
  readonly provisioned: Statement;
  readonly find: Statement;
  readonly page: Statement;
  readonly looks: Statement;
}

/** Has the classes of the product add, complete and read a domain, and records what they send. */
async function record(url: string): Promise<{ key: string; view: DomainView; statements: Statements }> {
  Logger.overrideLogger(false);
  const pool = openPool(url, 1);
  try {
    let sent: Statement[] = [];
    pool.on('connect', (client: PoolClient) => {
      const query = client.query.bind(client) as (...args: unknown[]) => unknown;
      client.query = ((...args: unknown[]) => {
        const [statement] = args;
        if (typeof statement === 'object' && statement !== null && 'name' in statement)
          sent.push(statement as Statement);
        return query(...args);
      }) as never;
    });
    const sentBy = async (name: string, work: () => Promise<unknown>): Promise<Statement> => {
      sent = [];
      await work();
      const found = sent.find((statement) => statement.name.startsWith(name));
      if (!found) throw new Error(`No statement ${name} was sent, but ${sent.map((one) => one.name).join(', ')}.`);
      return found;
    };
    const shards = new StoredShards(pool);
    await shards.store([{ name: 'default', region: 'eu-west-1', capacity: 10_000_000 } as never]);
    const accounts = new Accounts(pool);
    const { id: team } = await accounts.createTeam('Bench', ['bench@sendmux.ai']);
    const { key } = await accounts.createKey(team, { role: 'root:full' });
    const readModel = new DomainsReadModel(pool);
    const handler = new DomainCommandHandler(new EventStore(pool, domainsProjection));
    const [id, name] = [newId('mdom'), 'recorded.acme.com'];
    const context = { at: new Date().toISOString(), actor: newId('key'), requestId: newId('req'), correlationId: '' };
    const add = new AddDomain(id, { name, team, deadline: context.at, sesShard: 'default' }, context);
    const complete = new CompleteProvisioning(id, provisioned, context);
    const execute = (command: AddDomain | CompleteProvisioning) => () => handler.execute({ command });
    const statements = {
      authenticate: await sentBy('api-keys', () => accounts.authenticate(key)),
      holder: await sentBy('domain-holders', () => readModel.holderOf(name)),
      shard: await sentBy('shards-open', () => shards.chooseOpen()),
      stream: await sentBy('stream read', () => handler.load(id)),
      added: await sentBy('append one', execute(add)),
      provisioned: await sentBy('append one', execute(complete)),
      find: await sentBy('domains-find', () => readModel.find(id, team)),
      page: await sentBy('domain-page', () => readModel.page(team, 1)),
      looks: await sentBy('requested-looks', () => new RequestedLooks(pool).of([id])),
    };
    return { key, view: (await readModel.find(id, team))!, statements };
  } finally {
    await pool.end();
  }
}

/** Serves on a free port of loopback, with a key of a new team. */
export async function serveBare(url: string): Promise<Serving> {
  const { key, view: recordedView, statements } = await record(url);
  const pool = new Pool({ connectionString: url, max: 16 });
  const query = async <Row extends object>(statement: keyof Statements, values: unknown[]): Promise<Row[]> => {
    const { name, text } = statements[statement];
    return (await pool.query<Row>({ name, text, values })).rows;
  };
  const callerOf = async (authorization = ''): Promise<{ id: string; team: string } | undefined> => {
    const hash = createHash('sha256').update(authorization.slice('Bearer '.length)).digest();
    return (await query<{ id: string; team: string }>('authenticate', [[hash]]))[0];
  };
  const present = async (views: readonly DomainView[]) => {
    const looks = await query<{ domain: string; at: Date }>('looks', [views.map(({ id }) => id)]);
    const lookedAt = new Map(looks.map(({ domain, at }) => [domain, at]));
    return views.map((view) => {
      const checkedAt = lookedAt.get(view.id) ?? view.checkedAt;
      return presentDomain(view, checkTimes({ ...view, checkedAt }, new Map(), Date.now(), cycleMs));
    });
  };
  const server = fastify();
  const path = '/api/v1/domains';
  server.get<{ Params: { id: string } }>(`${path}/:id`, async (request, reply) => {
    const caller = await callerOf(request.headers.authorization);
    if (!caller) return reply.status(401).send();
    const [view] = await query<DomainView>('find', [[request.params.id], [caller.team]]);
    if (!view) return reply.status(404).send();
    return { ok: true, data: (await present([view]))[0], meta: { request_id: newId('req') } };
  });
  server.get<{ Querystring: { limit: string } }>(path, async (request, reply) => {
    const caller = await callerOf(request.headers.authorization);
    if (!caller) return reply.status(401).send();
    const limit = Number(request.query.limit);
    const views = await query<DomainView>('page', [caller.team, limit + 1]);
    return {
      ok: true,
      data: await present(views.slice(0, limit)),
      pagination: {
        has_more: views.length > limit,
        next_cursor: Buffer.from(views[limit - 1]!.id).toString('base64url'),
      },
      meta: { request_id: newId('req') },
    };
  });
  server.post<{ Body: { domain: string } }>(path, async (request, reply) => {
    const caller = await callerOf(request.headers.authorization);
    if (!caller) return reply.status(401).send();
    const { team } = caller;
    const name = request.body.domain;
    if ((await query('holder', [[name]])).length > 0) return reply.status(409).send();
    await query('shard', []);
    const [id, requestId, now] = [newId('mdom'), newId('req'), new Date()];
    const time = now.toISOString();
    const append = (step: 'added' | 'provisioned', changed: object) => {
      const [, expected, type, schemaVersion, data, metadata, , row] = statements[step].values as string[];
      const whose = { actor: caller.id, requestId, correlationId: requestId };
      return query(step, [
        id,
        expected,
        type,
        schemaVersion,
        JSON.stringify({ ...(JSON.parse(data!) as object), ...changed }),
        JSON.stringify({ ...(JSON.parse(metadata!) as object), ...whose }),
        time,
        JSON.stringify({ ...(JSON.parse(row!) as object), id, name, team, created_at: time, updated_at: time }),
      ]);
    };
    await append('added', { name, team, deadline: time });
    await query('stream', [id, 1, 1_000]);
    await append('provisioned', {});
    const [data] = await present([{ ...recordedView, id, name, team, createdAt: now, version: 2 }]);
    return reply
      .status(201)
      .header('location', `${path}/${id}`)
      .send({ ok: true, data, meta: { request_id: requestId } });
  });
  return { origin: await server.listen({ port: 0, host: '127.0.0.1' }), key };
}
