import { Commands } from '@app/commands';
import { openPool } from '@app/database';
import { EventLog, eventId, type RecordedEvent } from '@app/event-store';
import {
  AddDomain,
  ChooseDomainOutboundProvider,
  CompleteDeletion,
  CompleteIdentityRepair,
  CompleteProvisioning,
  DomainRuleBroken,
  type DomainCommand,
  EnableReceiving,
  RecordCheck,
  ReleaseDomain,
  RequestDeletion,
  RequestIdentityRepair,
} from '@app/mail-domain';
import { checkNames, type Finding } from '@app/mail-records';
import {
  CreateMailbox,
  DeleteMailbox,
  MailboxRuleBroken,
  ResumeMailbox,
  SuspendMailbox,
  UpdateMailbox,
} from '@app/mailbox';
import { newId } from '@app/runtime';
import { webhookTypes, type WebhookType } from '@app/webhooks';
import type { Pool } from 'pg';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { mailboxKeysIn } from '../../test/support/mailbox-keys';
import { migratedDatabase } from '../../test/support/migrated-database';
import { numbers } from '../../test/support/numbers';
import { sample } from '../../test/support/sample';
import type { TestDatabase } from '../../test/support/test-database';
import { testBody, WebhookMessages, type WantedMessage } from '.';

interface Body {
  readonly [attribute: string]: unknown;
  readonly data: {
    readonly team: string;
    readonly domain?: Record<string, unknown>;
    readonly mailbox?: Record<string, unknown>;
    readonly failing?: readonly unknown[];
    readonly records_to_remove?: readonly { readonly value: string }[];
  };
}

let database: TestDatabase;
let gateway: TestGateway;
let pool: Pool;
let log: EventLog;

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
  pool = openPool(database.url, 4);
  log = new EventLog(pool);
});
afterAll(async () => {
  await log.close();
  await pool.end();
  await gateway.close();
  await database.drop();
});

const parsed = (body: Buffer | undefined): Body => JSON.parse(body!.toString()) as Body;

/** Leads domains and mailboxes of a team through lives that a seed decides, one command at a time. */
class Lives {
  readonly domains: string[] = [];
  readonly mailboxes: string[] = [];
  private readonly next: () => number;
  private cycle = 0;
  private readonly commands = gateway.app.get(Commands, { strict: false });

  constructor(
    seed: number,
    private readonly team: string,
  ) {
    this.next = numbers(seed);
  }

  /** Gives one command that the model has carried out or refused. */
  async step(): Promise<void> {
    try {
      await this.commands.execute(this.command() as DomainCommand);
    } catch (error) {
      if (!(error instanceof DomainRuleBroken || error instanceof MailboxRuleBroken)) throw error;
    }
  }

  private command(): object {
    const context = { at: new Date().toISOString(), actor: 'key_1', correlationId: newId('req') };
    const domain = this.one(this.domains.slice(-4));
    const mailbox = this.one(this.mailboxes.slice(-8));
    const identity = {
      dkimTokens: ['a', 'b', this.one(['c', 'd'])!],
      dkimZone: 'dkim.amazonses.com',
      sesRegion: 'eu-west-1',
      sesDkimStatus: this.one(['pending', 'success'] as const)!,
    };
    const provider = this.one([null, 'mailgun']) ?? null;
    const look = () => {
      const outcomes = this.one([['pass'], ['pass'], ['pass', 'fail'], ['fail', 'pass', 'indeterminate']] as const)!;
      const findings = checkNames.map((check): Finding => {
        const outcome = this.one(outcomes)!;
        const code = outcome === 'pass' ? 'ok' : `${check}_missing`;
        const seen = outcome === 'fail' ? ['something else', 'x'.repeat(600)] : [];
        return { check, outcome, code, message: 'm', name: 'n', type: 'TXT', expected: 'e', observed: seen };
      });
      return {
        findings,
        sesDkimStatus: this.one(['success', 'pending', null] as const)!,
        trigger: this.one(['scheduled', 'requested'] as const)!,
        cycle: ++this.cycle,
        ...(this.next() < 0.3 && { sesMailFromStatus: this.one(['pending', 'success'] as const)! }),
      };
    };
    const added = () => {
      const id = newId('mdom');
      this.domains.push(id);
      const name = this.one([`${id.slice(-20)}.example.com`, `xn--mnchen-3ya.${id.slice(-20)}.example.com`])!;
      // This test does what provisioning would.
      gateway.plans.set(name, 'ignore');
      gateway.kept.add(name);
      const mode = this.one([undefined, 'send_only'] as const);
      return new AddDomain(id, { name, team: this.team, deadline: context.at, ...(mode && { mode }) }, context);
    };
    const created = () => {
      const id = newId('mbx');
      this.mailboxes.push(id);
      const address = `${id.slice(-20)}@${domain}.example.com`;
      const home = { domainId: domain!, status: 'verified' };
      const displayName = this.one([null, 'Ada “the first” Lovelace']) ?? null;
      return new CreateMailbox(id, { address, team: this.team, home, provider, displayName }, context);
    };
    if (!domain || this.next() < 0.02) return added();
    const choices: (() => object)[] = [
      ...Array.from({ length: 3 }, () => () => new CompleteProvisioning(domain, identity, context)),
      ...Array.from({ length: 8 }, () => () => new RecordCheck(domain, look(), context)),
      ...Array.from({ length: 4 }, () => created),
      () => new RequestIdentityRepair(domain, { fault: 'missing' }, context),
      () => new CompleteIdentityRepair(domain, identity, context),
      () => new CompleteIdentityRepair(domain, identity, context),
      () => new ChooseDomainOutboundProvider(domain, { provider }, context),
      () => new EnableReceiving(domain, context),
      () => new CompleteDeletion(domain, context),
      ...(this.next() < 0.3
        ? [
            () => new RequestDeletion(domain, context),
            () => new ReleaseDomain(domain, { claim: 'claim_1', ownership: 'absent', graceMs: 0 }, context),
          ]
        : []),
      ...(mailbox
        ? [
            () => new SuspendMailbox(mailbox, context),
            () => new SuspendMailbox(mailbox, context, this.next() < 0.2 ? { reason: 'domain_released' } : {}),
            () => new ResumeMailbox(mailbox, context),
            () => new ResumeMailbox(mailbox, context),
            () => new DeleteMailbox(mailbox, context),
            () => new UpdateMailbox(mailbox, { provider }, context),
            () => new UpdateMailbox(mailbox, { displayName: this.one([null, 'Ada']) ?? null }, context),
          ]
        : []),
    ];
    return this.one(choices)!();
  }

  private one<T>(of: readonly T[]): T | undefined {
    return of[Math.floor(this.next() * of.length)];
  }
}

/** What the API has answered about a stream after each step. */
type Answered = Record<string, unknown> | undefined;

describe('the body of a message', () => {
  it('shows what the API answered right after the event, then and ever after', async () => {
    const seed = Number(process.env.SEED ?? 20);
    const { key, team } = await gateway.key();
    const lives = new Lives(seed, team);
    const live = new WebhookMessages(pool, mailboxKeysIn(pool));
    const wanted: WantedMessage[] = [];
    const before = new Map<string, Answered>();
    const expected = new Map<string, Body>();
    const steps = sample(900, 20_000);
    const deleted = async (mailbox: string): Promise<Answered> => {
      const home = before.get(mailbox)!.domain_id as string;
      const { body } = await gateway.call('GET', `/api/v1/mailboxes?domain_id=${home}&include_deleted=true&limit=100`, {
        key,
      });
      return (body.data as unknown as Record<string, unknown>[]).find(({ id }) => id === mailbox);
    };
    const read = async (stream: string): Promise<Answered> => {
      const path = stream.startsWith('mbx_') ? 'mailboxes' : 'domains';
      const { status, body } = await gateway.call('GET', `/api/v1/${path}/${stream}`, { key });
      return status === 200 ? (body.data as never) : undefined;
    };

    for (let step = 0, after = await log.head(); step < steps; step++) {
      await lives.step();
      const { events, settledUpTo } = await log.read({ after, limit: 100 });
      after = settledUpTo;
      for (const stream of new Set(events.map((event) => event.stream))) {
        const now = await read(stream);
        const told = await Promise.all(
          events.filter((event) => event.stream === stream).map(async (event) => [event, await live.typeOf(event)]),
        );
        const messages = told.filter((each): each is [RecordedEvent, WebhookType] => each[1] !== undefined);
        expect(messages.map(([, type]) => type)).toEqual(transitionOf(stream, before.get(stream), now, events));
        for (const [event, type] of messages) {
          const message = eventId(event);
          const bodies = await live.bodies([{ message, type }]);
          expect([...bodies.keys()]).toEqual([message]);
          const body = parsed(bodies.get(message));
          const { data, ...attributes } = body;
          expect(attributes).toEqual({
            specversion: '1.0',
            id: message,
            source: '/sendmux-domains',
            type,
            subject: stream,
            time: event.time,
            datacontenttype: 'application/json',
            sequence: String(event.position).padStart(16, '0'),
          });
          expect(data.team).toBe(team);
          const asDeleted = { verification_status: 'pending', deleting: true };
          if (type === 'mailbox.deleted') expect(data.mailbox).toEqual(await deleted(stream));
          else if (type === 'domain.deleted') {
            const last = { ...before.get(stream), ...asDeleted, mailbox_count: data.domain!.mailbox_count };
            expect(seen(data.domain)).toEqual(seen(last));
          } else expect(seen(data.domain ?? data.mailbox)).toEqual(seen(now));
          if (data.domain) expect(data.domain.next_check_at).toBeNull();
          expect(data.failing !== undefined).toBe(type === 'domain.lapsed' || type === 'domain.failed');
          expect(data.records_to_remove !== undefined).toBe(type === 'domain.deleted');
          wanted.push({ message, type });
          expected.set(message, body);
        }
        // A domain that has gone to another team is deleted as it was before.
        if (now || !stream.startsWith('mdom_')) before.set(stream, now);
      }
    }

    const types = new Set(wanted.map(({ type }) => type));
    expect([...types].sort()).toEqual([...webhookTypes].sort());
    const next = numbers(seed);
    for (const each of [wanted, [...wanted].reverse(), [...wanted].sort(() => next() - 0.5)]) {
      const later = new WebhookMessages(pool, mailboxKeysIn(pool));
      for (let i = 0; i < each.length; i += 50) {
        const page = each.slice(i, i + 50).map((message) => ({ ...message, replayId: 'rpl_1' }));
        const bodies = await later.bodies(page);
        expect(bodies.size).toBe(page.length);
        for (const [message, body] of bodies)
          expect(parsed(body)).toEqual({ ...expected.get(message), replayid: 'rpl_1' });
      }
    }
  });
});

it('makes the bodies of a page but for that of a mailbox whose key is lost', async () => {
  const [lost, kept] = [newId('mbx'), newId('mbx')];
  const context = { at: new Date().toISOString(), actor: 'key_1', correlationId: 'req_1' };
  for (const id of [lost, kept]) {
    const data = { address: `a-${id}@myagent.mx`, team: `team_${id}`, home: null, provider: null };
    await gateway.app.get(Commands, { strict: false }).execute(new CreateMailbox(id, data, context));
  }
  await pool.query('DELETE FROM mailbox_keys WHERE mailbox_id = $1', [lost]);
  const wanted = [lost, kept].map((id) => ({ message: `${id}/1`, type: 'mailbox.created' as const }));
  const bodies = await new WebhookMessages(pool, mailboxKeysIn(pool)).bodies(wanted);
  expect([...bodies.keys()]).toEqual([`${kept}/1`]);
  expect(parsed(bodies.get(`${kept}/1`)).data.mailbox).toMatchObject({ email: `a-${kept}@myagent.mx` });
});

describe('the body of a test', () => {
  it('is a CloudEvent about the endpoint', () => {
    const time = new Date('2026-03-01T10:00:00.000Z');
    expect(JSON.parse(testBody({ message: 'msg_1', webhook: 'whk_1', team: 'team_1', time }).toString())).toEqual({
      specversion: '1.0',
      id: 'msg_1',
      source: '/sendmux-domains',
      type: 'sendmux.test',
      subject: 'whk_1',
      time: '2026-03-01T10:00:00.000Z',
      datacontenttype: 'application/json',
      data: { team: 'team_1', webhook: 'whk_1' },
    });
  });
});

/** The times of looks are not part of the stream. */
function seen(resource: Answered): Answered {
  if (!resource) return undefined;
  const { last_checked_at: _, next_check_at: __, ...rest } = resource;
  return rest;
}

/** Gives the types of the messages that a customer expects who has seen the answers before and after one command. */
function transitionOf(
  stream: string,
  before: Answered,
  now: Answered,
  events: readonly RecordedEvent[],
): WebhookType[] {
  if (stream.startsWith('mbx_')) {
    if (!now) return ['mailbox.deleted'];
    if (!before) return ['mailbox.created'];
    if (before.status === now.status) return [];
    return [now.status === 'active' ? 'mailbox.resumed' : 'mailbox.suspended'];
  }
  if (events.some(({ type }) => type === 'DomainDeleted')) return ['domain.deleted'];
  if (!now) return [];
  if (!before) return ['domain.created'];
  if (JSON.stringify(before.dns_records) !== JSON.stringify(now.dns_records)) return ['domain.records_changed'];
  if (before.verification_status === now.verification_status || now.deleting) return [];
  if (now.verification_status === 'pending') return ['domain.lapsed'];
  if (now.verification_status === 'failed') return ['domain.failed'];
  return [before.verification_status === 'failed' ? 'domain.recovered' : 'domain.verified'];
}
