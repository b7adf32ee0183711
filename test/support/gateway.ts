import { BlockList, type AddressInfo } from 'node:net';
import type { Settings } from '@app/runtime';
import type { DynamicModule } from '@nestjs/common';
import { Commands } from '@app/commands';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { Accounts, type Grant } from '@app/accounts';
import { EventLog, type RecordedEvent } from '@app/event-store';
import {
  CompleteDeletion,
  CompleteProvisioning,
  CompleteRollback,
  FailProvisioning,
  type DomainCommand,
  type ProvisioningFailed,
} from '@app/mail-domain';
import {
  Answers,
  checkNames,
  type Answer as DnsAnswer,
  type CheckName,
  type Finding,
  type TxtRr,
} from '@app/mail-records';
import { createApp, type AppToRun, type TimeLimits } from '@app/process';
import { Explainer, PublishedRecords, Resolvers, Verifier, type Look, type Questions } from '@app/verification';
import type { ClaimSchema } from '../../apps/gateway/claims/claims.dto';
import type { DeletionSchema, DomainSchema } from '../../apps/gateway/domains/domain.dto';
import type { MailboxSchema } from '../../apps/gateway/mailboxes/mailbox.dto';
import { ApiContract, type OpenApi } from './api-contract';
import type { VerificationSchema } from '../../apps/gateway/domains/verification.dto';
import { GatewayModule } from '../../apps/gateway/gateway.module';
import { edgeOf } from '../../apps/gateway/http/configure';
import { personalDataRing } from './mailbox-keys';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: Body;
}

/** All fields that an answer can have. A test reads those that it expects. */
export interface Body {
  readonly ok: boolean;
  readonly data: DomainSchema & VerificationSchema & DeletionSchema & MailboxSchema & ClaimSchema;
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly retryable: boolean;
    readonly current?: number;
    readonly limit?: number;
    readonly param?: string;
    readonly doc_url: string;
    readonly errors?: readonly { readonly code: string; readonly field: string; readonly message: string }[];
  };
  readonly pagination: { readonly has_more: boolean; readonly next_cursor?: string };
  readonly meta: { readonly request_id: string; readonly as_of?: string };
}

export interface Call {
  readonly key?: string;
  /** Sent as JSON, except for a string, which is sent unchanged. */
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** What the stand-in for provisioning does with a name: complete it, ignore it, or fail it with this data. */
export type Plan = 'provision' | 'ignore' | ProvisioningFailed['data'];

export interface TestGateway {
  readonly app: NestFastifyApplication;
  readonly accounts: Accounts;
  /** The plans by name, for adds and deletions; `provision` when there is none. */
  readonly plans: Map<string, Plan>;
  /** Names whose deletion or rollback is never completed. */
  readonly kept: Set<string>;
  /** The findings of the verifier; all checks pass unless a test changes them. */
  readonly verifier: {
    findings: Partial<Record<CheckName, Partial<Finding>>>;
    identity: Look['identity'];
    dkim: Look['dkim'];
    looks: number;
    /** The teams whose ownership records stand at a name, or `unreachable`, for the looks for claims. */
    owners: Map<string, readonly string[] | 'unreachable'>;
    /** The teams whose ownership records one of the two resolvers sees besides. */
    propagating: Map<string, readonly string[]>;
  };
  /** The resolvers that plans use; none unless a test adds some. */
  readonly resolvers: Questions[];
  key(grant?: Grant): Promise<{ key: string; team: string; id: string }>;
  /** Sends a request over the network. Fails when the answer is not as the OpenAPI document says. */
  call(method: string, path: string, call?: Call): Promise<Answer>;
  execute(command: DomainCommand): Promise<unknown>;
  /** Provisions a domain as provisioning would. */
  provision(id: string): Promise<unknown>;
  endDeletion(id: string): Promise<unknown>;
  close(): Promise<void>;
}

/** Where the customers of the tests are said to reach the gateway. */
export const publicUrl = 'https://app.example.com';

const settings = {
  PORT: 0,
  HOST: '127.0.0.1',
  PUBLIC_URL: publicUrl,
  DOH_RESOLVERS: ['http://127.0.0.1:1/dns-query'],
  DOH_TIMEOUT: 1_000,
  AWS_REGION: 'eu-west-1',
  AWS_ENDPOINT_URL_SESV2: undefined,
  SES_SHARDS: undefined as Settings['SES_SHARDS'],
  OUTBOUND_PROVIDERS: new Map([['mailgun', 'smtp.eu.mailgun.org:587']]),
  MAIL_FROM_REQUIRED: false,
  CLAIM_GRACE: 7 * 86_400_000,
  SES_CALLS_PER_SECOND: 1,
  SES_TIMEOUT: 1_000,
  DOMAIN_CONNECT_PROVIDERS: [] as string[],
  DOMAIN_CONNECT_KEY_FILE: undefined as string | undefined,
  DOMAIN_CONNECT_KEY_NAME: '_dck1',
  DOMAIN_CONNECT_LOOPBACK: false,
  PROVISIONING_DEADLINE: 30_000,
  RATE_LIMIT_PER_MINUTE: 1_000_000,
  MAX_DOMAINS_PER_TEAM: 1_000_000,
  MAX_MAILBOXES_PER_TEAM: 1_000_000,
  MAX_DOMAINS: 10_000_000,
  VERIFICATION_INTERVAL: 21_600_000,
  PERSONAL_DATA_KEYS: personalDataRing as Map<string, Buffer> | undefined,
  WEBHOOK_SECRET_KEYS: new Map([['test', Buffer.alloc(32, 7)]]) as Map<string, Buffer> | undefined,
  WEBHOOKS_ALLOW_LOOPBACK: false,
  WEBHOOKS_DENIED_ADDRESSES: new BlockList(),
  MAX_WEBHOOKS_PER_TEAM: 1_000_000,
  LOG_LEVEL: 'silent' as const,
};

/**
 * Starts the gateway as `main.ts` does, with stand-ins for provisioning, which follows the real log, and for the
 * verifier.
 */
export async function startGateway(
  url: string,
  changes: Partial<typeof settings> = {},
  limits?: TimeLimits,
  pages?: string,
  traces?: AppToRun['traces'],
): Promise<TestGateway> {
  const verifier: TestGateway['verifier'] = {
    findings: {},
    identity: null,
    dkim: 'success',
    looks: 0,
    owners: new Map(),
    propagating: new Map(),
  };
  const look = (domain: { name: string }): Promise<Look> => {
    verifier.looks++;
    const findings = checkNames.map((name) => ({
      check: name,
      outcome: 'pass' as const,
      code: 'ok',
      message: 'In place.',
      name: domain.name,
      type: 'TXT' as const,
      expected: 'x',
      observed: ['x'],
      ...verifier.findings[name],
    }));
    const assessment = { findings, sesDkimStatus: findings[4]!.outcome === 'pass' ? ('success' as const) : null };
    const { identity, dkim } = verifier;
    return Promise.resolve({ assessment, answers: new Answers(), identity, dkim });
  };
  const ownershipOf = (name: string, teams: readonly string[]): Promise<Finding[]> => {
    const owners = verifier.owners.get(name) ?? [];
    const sees = (others: readonly string[] = []): ConstructorParameters<typeof Verifier>[0][number] => {
      const all = owners === 'unreachable' ? [] : [...owners, ...others];
      const answer: DnsAnswer<TxtRr> =
        owners === 'unreachable'
          ? { kind: 'unreachable', reason: 'no answer' }
          : all.length > 0
            ? { kind: 'records', records: all.map((team) => `sendmux-verify=${team}`), aliases: [] }
            : { kind: 'nxdomain', aliases: [] };
      return { txt: () => Promise.resolve(answer) } as never;
    };
    return new Verifier([sees(), sees(verifier.propagating.get(name))], {
      get: () => Promise.resolve(null),
    }).ownership(name, teams);
  };
  const check = async (domain: { name: string }) => (await look(domain)).assessment;
  const resolvers: Questions[] = [];
  class LookUps {}
  const lookUps: DynamicModule = {
    module: LookUps,
    providers: [
      { provide: Verifier, useValue: { look, check, ownership: ownershipOf } },
      { provide: Explainer, useValue: new Explainer([], []) },
      { provide: PublishedRecords, useValue: new PublishedRecords(resolvers) },
      { provide: Resolvers, useValue: { clients: resolvers } },
    ],
    exports: [Explainer, Verifier, PublishedRecords, Resolvers],
  };
  const app = await createApp({
    host: settings.HOST,
    port: 0,
    module: GatewayModule.forRoot({ ...settings, DATABASE_URL: url, ...changes }, lookUps),
    ...edgeOf(publicUrl, pages),
    limits,
    traces,
  });
  await app.listen(0, settings.HOST);
  const { port } = app.getHttpServer().address() as AddressInfo;
  const origin = `http://${settings.HOST}:${port}`;

  const accounts = app.get(Accounts, { strict: false });
  const commands = app.get(Commands, { strict: false });
  const execute = (command: DomainCommand) => commands.execute(command);
  const plans: TestGateway['plans'] = new Map();
  const kept: TestGateway['kept'] = new Set();
  const stop = new AbortController();
  const log = app.get(EventLog, { strict: false });
  // The head is read before the first request, so that no event of the test is skipped.
  const after = await log.head();
  const provisioning = provision(log, after, execute, plans, kept, stop.signal);

  const contract = new ApiContract((await (await fetch(`${origin}/api/v1/openapi.json`)).json()) as OpenApi);
  const call: TestGateway['call'] = async (method, path, { key, body, headers = {} } = {}) => {
    const response = await fetch(`${origin}${path}`, {
      method,
      headers: {
        ...(key && { authorization: `Bearer ${key}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body),
    });
    const text = await response.text();
    contract.check(method, path, { status: response.status, headers: response.headers, text });
    const json = response.headers.get('content-type')?.startsWith('application/json');
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: json && text !== '' ? (JSON.parse(text) as Body) : ({} as Body),
    };
  };
  return {
    app,
    accounts,
    plans,
    kept,
    verifier,
    resolvers,
    call,
    execute,
    provision: (id) => execute(completed(id)),
    endDeletion: (id) => execute(new CompleteDeletion(id, contextOf(id))),
    key: async (grant = { role: 'root:full' }) => {
      const { id: team } = await accounts.createTeam('Acme', ['ada@acme.com']);
      const { key, id } = await accounts.createKey(team, grant);
      return { key, team, id };
    },
    close: async () => {
      stop.abort();
      await provisioning;
      await app.close();
    },
  };
}

const handled = new Set(['DomainAdded', 'ProvisioningFailed', 'DomainDeletionRequested', 'DomainReleased']);

/**
 * Follows the log, and provisions or rolls back domains according to the plans: as provisioning does, each by itself,
 * and the events of one domain one after another.
 */
async function provision(
  log: EventLog,
  after: number,
  execute: (command: DomainCommand) => Promise<unknown>,
  plans: TestGateway['plans'],
  kept: TestGateway['kept'],
  signal: AbortSignal,
): Promise<void> {
  const names = new Map<string, string>();
  const act = async ({ type, stream, data }: RecordedEvent) => {
    if (signal.aborted) return;
    if (type === 'DomainAdded') names.set(stream, (data as { name: string }).name);
    const name = names.get(stream)!;
    const context = contextOf(stream);
    const plan = plans.get(name) ?? 'provision';
    if (type === 'DomainAdded' && plan === 'provision') await execute(completed(stream));
    else if (type === 'DomainAdded' && typeof plan === 'object')
      await execute(new FailProvisioning(stream, plan, context));
    else if (type === 'ProvisioningFailed' && !kept.has(name)) await execute(new CompleteRollback(stream, context));
    else if ((type === 'DomainDeletionRequested' || type === 'DomainReleased') && !kept.has(name))
      await execute(new CompleteDeletion(stream, context));
  };
  const working = new Map<string, Promise<void>>();
  let failed: (error: unknown) => void = () => undefined;
  const failure = new Promise<never>((_, reject) => (failed = reject));
  failure.catch(() => undefined);
  const isPromptFor = (type: string) => handled.has(type);
  for await (const events of log.follow({ after, signal, isPromptFor })) {
    for (const event of events) {
      const { stream } = event;
      const work = (working.get(stream) ?? Promise.resolve())
        .then(() => act(event))
        .catch(failed)
        .finally(() => working.get(stream) === work && working.delete(stream));
      working.set(stream, work);
    }
  }
  await Promise.race([Promise.all(working.values()), failure]);
}

const contextOf = (id: string) => ({ at: new Date().toISOString(), actor: 'provisioning', correlationId: id });

const completed = (id: string) =>
  new CompleteProvisioning(
    id,
    {
      dkimTokens: ['token1', 'token2', 'token3'],
      dkimZone: 'dkim.amazonses.com',
      sesRegion: 'eu-west-1',
      sesDkimStatus: 'pending',
    },
    contextOf(id),
  );
