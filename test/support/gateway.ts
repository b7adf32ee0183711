import type { AddressInfo } from 'node:net';
import type { DynamicModule } from '@nestjs/common';
import { CommandBus } from '@nestjs/cqrs';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { Accounts, type Grant } from '@app/accounts';
import { EventLog } from '@app/event-store';
import {
  CompleteDeletion,
  CompleteProvisioning,
  CompleteRollback,
  FailProvisioning,
  type CheckName,
  type DomainCommand,
  type Finding,
  type ProvisioningFailed,
} from '@app/mail-domain';
import { createApp } from '@app/runtime';
import { DkimDetection, Explainer, PublishedRecords, Verifier, type Look, type Questions } from '@app/verification';
import type { DeletionSchema, DomainSchema } from '../../apps/gateway/domains/domain.dto';
import type { MailboxSchema } from '../../apps/gateway/mailboxes/mailbox.dto';
import type { VerificationSchema } from '../../apps/gateway/domains/verification.dto';
import { GatewayModule } from '../../apps/gateway/gateway.module';
import { configure, refusals } from '../../apps/gateway/http/configure';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: Body;
}

/** All that an answer may have: a test reads what it expects. */
export interface Body {
  readonly ok: boolean;
  readonly data: DomainSchema & VerificationSchema & DeletionSchema & MailboxSchema;
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly retryable: boolean;
    readonly param?: string;
    readonly errors?: readonly { readonly code: string; readonly param?: string; readonly message: string }[];
  };
  readonly meta: {
    readonly request_id: string;
    readonly next_cursor: string | null;
    readonly has_more: boolean;
    readonly as_of?: string;
  };
}

export interface Call {
  readonly key?: string;
  /** Sent as JSON; a string is sent as it is. */
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** What the stand-in for provisioning does with a name: it completes, fails, or does nothing. */
export type Plan = 'provision' | 'ignore' | ProvisioningFailed['data'];

export interface TestGateway {
  readonly app: NestFastifyApplication;
  readonly accounts: Accounts;
  /** What becomes of a name that is added, and of a deletion; `provision` and at once unless a test says otherwise. */
  readonly plans: Map<string, Plan>;
  /** Names whose deletion or rollback is not carried out. */
  readonly kept: Set<string>;
  /** What the verifier finds; all pass unless a test says otherwise. */
  readonly verifier: {
    findings: Partial<Record<CheckName, Partial<Finding>>>;
    identity: Look['identity'];
    looks: number;
  };
  /** Whom the plans ask; nobody unless a test says otherwise. */
  readonly resolvers: Questions[];
  key(grant?: Grant): Promise<{ key: string; team: string; id: string }>;
  /** A request over the socket. Fails when the OpenAPI document does not know the status that came. */
  call(method: string, path: string, call?: Call): Promise<Answer>;
  execute(command: DomainCommand): Promise<unknown>;
  /** Does to a domain what provisioning would. */
  provision(id: string): Promise<unknown>;
  endDeletion(id: string): Promise<unknown>;
  close(): Promise<void>;
}

const settings = {
  PORT: 0,
  HOST: '127.0.0.1',
  DOH_RESOLVERS: ['http://127.0.0.1:1/dns-query'],
  DOH_TIMEOUT: 1_000,
  AWS_REGION: 'eu-west-1',
  AWS_ENDPOINT_URL_SESV2: undefined,
  OUTBOUND_PROVIDERS: new Map([['mailgun', 'smtp.eu.mailgun.org:587']]),
  SES_CALLS_PER_SECOND: 1,
  SES_TIMEOUT: 1_000,
  PROVISIONING_DEADLINE: 30_000,
  RATE_LIMIT_PER_MINUTE: 1_000_000,
  VERIFICATION_INTERVAL: 21_600_000,
  LOG_LEVEL: 'silent' as const,
};

/** The gateway as `main.ts` runs it, with a stand-in for provisioning that follows the real log, and one for the look-ups. */
export async function startGateway(url: string, changes: Partial<typeof settings> = {}): Promise<TestGateway> {
  const verifier: TestGateway['verifier'] = { findings: {}, identity: null, looks: 0 };
  const look = (domain: { name: string }): Promise<Look> => {
    verifier.looks++;
    const findings = (['mx', 'verification_txt', 'spf', 'dmarc', 'dkim'] as const).map((name) => ({
      ...{ check: name, outcome: 'pass' as const, code: 'ok', message: 'In place.', name: domain.name },
      ...{ type: 'TXT' as const, expected: 'x', observed: ['x'] },
      ...verifier.findings[name],
    }));
    const assessment = { findings, sesDkimStatus: findings[4]!.outcome === 'pass' ? ('success' as const) : null };
    const answers = { mx: [], spf: [], dmarc: [], verification: [] };
    return Promise.resolve({ assessment, answers, identity: verifier.identity });
  };
  const resolvers: Questions[] = [];
  class LookUps {}
  const lookUps: DynamicModule = {
    module: LookUps,
    providers: [
      { provide: Verifier, useValue: { look } },
      { provide: Explainer, useValue: new Explainer([], []) },
      { provide: DkimDetection, useValue: { restart: () => Promise.resolve(true) } },
      { provide: PublishedRecords, useValue: new PublishedRecords(resolvers) },
    ],
    exports: [DkimDetection, Explainer, Verifier, PublishedRecords],
  };
  const app = await createApp({
    host: settings.HOST,
    port: 0,
    module: GatewayModule.forRoot({ ...settings, DATABASE_URL: url, ...changes }, lookUps),
    configure,
    refusals,
  });
  await app.listen(0, settings.HOST);
  const { port } = app.getHttpServer().address() as AddressInfo;
  const origin = `http://${settings.HOST}:${port}`;

  const accounts = app.get(Accounts, { strict: false });
  const bus = app.get(CommandBus, { strict: false });
  const execute = (command: DomainCommand) => bus.execute(command);
  const plans: TestGateway['plans'] = new Map();
  const kept: TestGateway['kept'] = new Set();
  const stop = new AbortController();
  const log = app.get(EventLog, { strict: false });
  // Before the first request: an event of its own must not be taken for an old one.
  const after = await log.head();
  const provisioning = provision(log, after, execute, plans, kept, stop.signal);

  const document = (await (await fetch(`${origin}/api/v1/openapi.json`)).json()) as Document;
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
    const known = statuses(document, method, path);
    if (known && !known.includes(String(response.status)))
      throw new Error(`The OpenAPI document has no ${response.status} for ${method} ${path}: ${text}`);
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

interface Document {
  readonly paths: Record<string, Record<string, { responses: Record<string, unknown> }>>;
}

/** The documented statuses of an operation; undefined where the document knows no such operation. */
function statuses({ paths }: Document, method: string, path: string): string[] | undefined {
  const bare = path.split('?', 1)[0]!;
  const template = Object.keys(paths).find((one) => new RegExp(`^${one.replace(/\{[^}]+\}/g, '[^/]+')}$`).test(bare));
  const operation = template && paths[template]![method.toLowerCase()];
  return operation ? Object.keys(operation.responses) : undefined;
}

/** Follows the log and does what provisioning would, with one word for an answer. */
async function provision(
  log: EventLog,
  after: number,
  execute: (command: DomainCommand) => Promise<unknown>,
  plans: TestGateway['plans'],
  kept: TestGateway['kept'],
  signal: AbortSignal,
): Promise<void> {
  const names = new Map<string, string>();
  for await (const events of log.follow({ after, signal })) {
    for (const { type, stream, data } of events) {
      if (signal.aborted) return;
      if (type === 'DomainAdded') names.set(stream, (data as { name: string }).name);
      const name = names.get(stream)!;
      const context = contextOf(stream);
      const plan = plans.get(name) ?? 'provision';
      if (type === 'DomainAdded' && plan === 'provision') await execute(completed(stream));
      else if (type === 'DomainAdded' && typeof plan === 'object')
        await execute(new FailProvisioning(stream, plan, context));
      else if (type === 'ProvisioningFailed' && !kept.has(name)) await execute(new CompleteRollback(stream, context));
      else if (type === 'DomainDeletionRequested' && !kept.has(name))
        await execute(new CompleteDeletion(stream, context));
    }
  }
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
