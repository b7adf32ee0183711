import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { ApiClient, Answer } from './processes';
import type { Product } from './product';
import {
  breakable,
  type Breakable,
  type Domain,
  type Expected,
  type Mail,
  type Message,
  type ProductModel,
  type Webhook,
} from './product-model';
import { WebhookReceiver } from './webhook-receiver';

/** Numbers of teams and names in a run. So few that they often meet. */
export const teamCount = 3;
export const nameCount = 4;

export interface Team {
  readonly id: string;
  readonly api: ApiClient;
  readonly owners: readonly string[];
}

interface Added {
  readonly id: string;
  readonly dns_records: {
    readonly dkim: readonly { readonly name: string; readonly value: string }[];
    readonly mail_from: {
      readonly mx: { readonly name: string; readonly priority: number; readonly target: string };
    } & {
      readonly spf: { readonly name: string; readonly value: string };
    };
  };
}

const spfRecord = 'v=spf1 include:amazonses.com include:sendmux.ai ~all';
const dmarcRecord = 'v=DMARC1; p=quarantine';
export const ownershipOf = ({ id }: Team) => `sendmux-verify=${id}`;

/** The product as one run sees it: with teams, names and endpoints of its own. */
export class Run {
  readonly domainIds: string[] = [];
  readonly mailboxIds: string[] = [];
  readonly claimIds: string[] = [];
  readonly webhookIds: string[] = [];
  readonly receivers: WebhookReceiver[] = [];
  steps = 0;

  private constructor(
    readonly product: Product,
    readonly teams: readonly Team[],
    private readonly suffix: string,
  ) {}

  static async begin(product: Product): Promise<Run> {
    const suffix = `r${randomBytes(5).toString('hex')}`;
    await product.clock.meet();
    const teams: Team[] = [];
    for (let i = 0; i < teamCount; i++) {
      // The first team has two owners.
      const owners = (i === 0 ? ['a', 'b'] : ['c']).map((who) => `${who}${i}.${suffix}@owners.example`);
      teams.push({ ...(await product.team(owners)), owners });
    }
    return new Run(product, teams, suffix);
  }

  async end(): Promise<void> {
    for (const receiver of this.receivers) receiver.close();
    await this.product.sandbox.clearMails();
  }

  nameOf(name: number): string {
    return `n${name}.${this.suffix}.com`;
  }

  numberOf(text: string): number | undefined {
    const match = new RegExp(`n(\\d+)\\.${this.suffix}\\.com`).exec(text);
    return match ? Number(match[1]) : undefined;
  }

  api(team: number): ApiClient {
    return this.teams[team]!.api;
  }

  /** Places what the answer about a domain says, beside the ownership records of others. */
  async place({ name, team }: Domain, answer: Answer, owners: ReadonlySet<number>): Promise<void> {
    const { sandbox } = this.product;
    const at = this.nameOf(name);
    const { dkim, mail_from: mailFrom } = (answer.body as { data: Added }).data.dns_records;
    for (const record of breakable) await this.set(name, record, true);
    await this.setOwners(name, new Set([...owners, team]));
    for (const each of dkim) await sandbox.set(each.name, 'CNAME', [each.value]);
    await sandbox.set(`bounce.${at}`, 'MX', [`${mailFrom.mx.priority} ${mailFrom.mx.target}`]);
    await sandbox.set(`bounce.${at}`, 'TXT', [mailFrom.spf.value]);
  }

  async set(name: number, record: Breakable, isThere: boolean): Promise<void> {
    const at = this.nameOf(name);
    const [owner, type, value] = {
      mx: [at, 'MX', '10 mail.sendmux.ai'],
      spf: [at, 'TXT', spfRecord],
      dmarc: [`_dmarc.${at}`, 'TXT', dmarcRecord],
    }[record] as [string, string, string];
    await this.product.sandbox.set(owner, type, isThere ? [value] : []);
  }

  async setOwners(name: number, owners: ReadonlySet<number>): Promise<void> {
    const values = [...owners].map((team) => ownershipOf(this.teams[team]!));
    await this.product.sandbox.set(`_sendmux.${this.nameOf(name)}`, 'TXT', values);
  }

  async createWebhook(team: number): Promise<Answer> {
    const receiver = await WebhookReceiver.open();
    const answer = await this.api(team).call('POST', '/webhooks', { url: receiver.url });
    const { id, secret } = (answer.body as { data: { id: string; secret: string } }).data;
    receiver.secrets.push(secret);
    this.receivers.push(receiver);
    this.webhookIds.push(id);
    return answer;
  }

  /** Compares an answer with what it should be. */
  answered(expected: Expected, { status, body }: Answer): void {
    const { data, error } = body as { data?: Record<string, unknown>; error?: Record<string, unknown> };
    assert.deepEqual(
      { status, code: error?.code },
      { status: expected.status, code: expected.code },
      JSON.stringify(body),
    );
    if (expected.data) assert.deepEqual(pick(data!, expected.data), expected.data);
    if (expected.error) assert.deepEqual(pick(error!, expected.error), expected.error);
  }

  /** Waits until the product is quiet, and compares all that can be seen of it with the model. */
  async agrees(model: ProductModel): Promise<void> {
    await this.product.settled();
    model.settle();
    const streams = await this.streams();
    this.bind(streams);
    const [mails, world] = await Promise.all([this.mails(), this.world()]);
    assert.deepEqual(
      { ...streams, ...world, mails, messages: this.messages() },
      {
        domains: model.domains.map(({ name, team, events }) => ({
          name: this.nameOf(name),
          team: this.teams[team]!.id,
          events,
        })),
        mailboxes: model.mailboxes.map(({ events }) => events),
        ...this.expectedWorld(model),
        mails: this.expectedMails(model.mails),
        messages: model.webhooks.map((webhook) => this.expectedMessages(webhook)),
      },
    );
  }

  /** Compares an answer about a domain with the guide. */
  async shows(model: ProductModel, domain: Domain, { body }: Answer): Promise<void> {
    const { data } = body as { data: Record<string, unknown> };
    const at = this.nameOf(domain.name);
    const identity = (await this.product.sandbox.identities()).find(({ name }) => name === at);
    const { host, ...ownership } = (data.dns_records as Record<string, Record<string, unknown>>).verification!;
    assert.deepEqual(
      {
        ...pick(data, [
          'id',
          'domain',
          'verification_status',
          'verified_at',
          'created_at',
          'mailbox_count',
          'deleting',
          'mode',
        ]),
        ownership,
      },
      {
        id: this.domainIds[domain.key],
        domain: at,
        verification_status: domain.status,
        verified_at: domain.verifiedAt === null ? null : second(domain.verifiedAt),
        created_at: second(domain.createdAt),
        mailbox_count: model.mailboxesOn(domain).filter(({ status }) => status === 'active').length,
        deleting: false,
        mode: 'send_receive',
        ownership: { name: `_sendmux.${at}`, value: ownershipOf(this.teams[domain.team]!) },
      },
      `${String(host)} ${JSON.stringify(data)}`,
    );
    const records = data.dns_records as Record<
      string,
      { name: string; value: string; priority?: number; target?: string }[]
    >;
    assert.deepEqual(
      records.mx!.map(({ priority, target }) => `${priority} ${target}`),
      ['10 mail.sendmux.ai'],
    );
    const tokens = records.dkim!.map(({ name, value }) => [name, value]);
    // While SES has lost the identity, its records stay as they are.
    if (domain.identity !== null)
      assert.deepEqual(
        tokens,
        identity!.tokens.map((token) => [`${token}._domainkey.${at}`, `${token}.dkim.amazonses.com`]),
      );
  }

  /** The team that is asked for what it has, another one after each step. */
  private get asked(): number {
    return this.steps % teamCount;
  }

  private async streams() {
    const ours = this.teams.map(({ id }) => id);
    const { rows } = await this.product.pool.query<{
      stream: string;
      types: string[];
      name: string | null;
      team: string;
    }>(
      `SELECT stream, data->>'name' AS name, data->>'team' AS team,
         (SELECT array_agg(type ORDER BY version) FROM events e WHERE e.stream = added.stream
          AND type NOT IN ('DnsChecked', 'OwnersTold')) AS types
       FROM events added WHERE type IN ('DomainAdded', 'MailboxCreated') AND data->>'team' = ANY ($1) ORDER BY position`,
      [ours],
    );
    return {
      ids: rows.map(({ stream }) => stream),
      domains: rows.filter(({ name }) => name !== null).map(({ name, team, types }) => ({ name, team, events: types })),
      mailboxes: rows.filter(({ name }) => name === null).map(({ types }) => types),
    };
  }

  private bind(streams: { ids?: string[] }): void {
    const ids = streams.ids!;
    delete streams.ids;
    this.domainIds.splice(0, Infinity, ...ids.filter((id) => id.startsWith('mdom')));
    this.mailboxIds.splice(0, Infinity, ...ids.filter((id) => !id.startsWith('mdom')));
  }

  private async world() {
    const { pool, mailServer, sandbox } = this.product;
    const ours = this.teams.map(({ id }) => id);
    const [rows, boxes, domains, recipients, identities, me] = await Promise.all([
      pool.query<{ id: string; status: string }>('SELECT id, status FROM domains WHERE team = ANY ($1)', [ours]),
      pool.query<{ id: string; status: string }>('SELECT id, status FROM mailboxes WHERE team = ANY ($1)', [ours]),
      mailServer.query<{ domain: string; id: string }>(
        'SELECT domain, domain_id AS id FROM mail_domains WHERE domain LIKE $1 AND active',
        [`%.${this.suffix}.com`],
      ),
      mailServer.query<{ address: string; status: string }>(
        'SELECT address, status FROM mail_recipients WHERE address LIKE $1',
        [`%.${this.suffix}.com`],
      ),
      sandbox.identities(),
      this.api(this.asked).call('GET', '/me'),
    ]);
    const identityOf = (name: string, tags: readonly { Value: string }[]) => [
      name,
      tags.map(({ Value }) => Value).join(),
    ];
    return {
      rows: sorted(rows.rows.map(({ id, status }) => [id, status])),
      boxes: sorted(boxes.rows.map(({ id, status }) => [id, status])),
      mailServer: sorted(domains.rows.map(({ domain, id }) => [domain, id])),
      recipients: sorted(recipients.rows.map(({ address, status }) => [address, status])),
      ses: sorted(
        identities
          .filter(({ name }) => name.endsWith(`.${this.suffix}.com`))
          .map(({ name, tags }) => identityOf(name, tags)),
      ),
      usage: (me.body as Me).data.usage,
    };
  }

  private expectedWorld(model: ProductModel) {
    const live = model.domains.filter((domain) => model.isLive(domain));
    const idOf = ({ key }: Domain) => this.domainIds[key]!;
    const boxesOf = (team: number) => model.mailboxes.filter((each) => each.team === team && each.status !== 'deleted');
    return {
      rows: sorted(model.domains.map((domain) => [idOf(domain), domain.status])),
      boxes: sorted(model.mailboxes.map(({ key, status }) => [this.mailboxIds[key]!, status])),
      mailServer: sorted(live.map((domain) => [this.nameOf(domain.name), idOf(domain)])),
      recipients: sorted(
        live.flatMap((domain) =>
          model.mailboxesOn(domain).map(({ local, status }) => [`${local}@${this.nameOf(domain.name)}`, status]),
        ),
      ),
      ses: sorted(
        live.filter(({ identity }) => identity !== null).map((domain) => [this.nameOf(domain.name), idOf(domain)]),
      ),
      usage: {
        domains: model.domainsOf(this.asked).length,
        mailboxes: boxesOf(this.asked).length,
        webhooks: model.webhooks.filter(({ team, isThere }) => isThere && team === this.asked).length,
      },
    };
  }

  private async mails(): Promise<string[]> {
    const owners = new Map(this.teams.flatMap(({ owners }) => owners.map((owner) => [owner, true])));
    return (await this.product.sandbox.mails())
      .filter(({ to }) => to.some((each) => owners.has(each)))
      .map(({ to, subject, text }) => {
        const names = new Set<string>();
        for (const [found] of text.matchAll(new RegExp(`(?<![\\w.-])n\\d+\\.${this.suffix}\\.com`, 'g')))
          names.add(found);
        return `${to.join()} ${aboutOf(subject)} ${[...names].sort().join()}`;
      })
      .sort();
  }

  private expectedMails(mails: readonly Mail[]): string[] {
    return mails
      .flatMap(({ team, about, names }) =>
        this.teams[team]!.owners.map(
          (owner) =>
            `${owner} ${about} ${names
              .map((name) => this.nameOf(name))
              .sort()
              .join()}`,
        ),
      )
      .sort();
  }

  /** What each endpoint got, by what it is about, each message once. */
  private messages(): Record<string, string[]>[] {
    return this.receivers.map(({ received }) => {
      const bySubject: Record<string, string[]> = {};
      const seen = new Set<string>();
      for (const { id, body, isGenuine } of received) {
        assert.ok(isGenuine, `${id} is not signed`);
        if (seen.has(id)) continue;
        seen.add(id);
        const { type, subject, data } = JSON.parse(body) as Arrived;
        const shown = data.domain?.verification_status ?? data.mailbox?.status;
        (bySubject[subject] ??= []).push(`${type} ${shown}`);
      }
      return bySubject;
    });
  }

  private expectedMessages({ got }: Webhook): Record<string, string[]> {
    const bySubject: Record<string, string[]> = {};
    for (const message of got) (bySubject[this.idOfSubject(message)] ??= []).push(`${message.type} ${message.status}`);
    return bySubject;
  }

  private idOfSubject({ subject }: Message): string {
    return 'domain' in subject ? this.domainIds[subject.domain]! : this.mailboxIds[subject.mailbox]!;
  }
}

interface Me {
  readonly data: { readonly usage: { readonly domains: number; readonly mailboxes: number } };
}
interface Arrived {
  readonly type: string;
  readonly subject: string;
  readonly data: {
    readonly domain?: { readonly verification_status: string };
    readonly mailbox?: { readonly status: string };
  };
}

const pick = (from: Readonly<Record<string, unknown>>, names: readonly string[] | object): Record<string, unknown> => {
  const wanted = Array.isArray(names) ? (names as string[]) : Object.keys(names);
  return Object.fromEntries(
    wanted.map((name) => {
      const value = from[name];
      const like = Array.isArray(names) ? undefined : (names as Record<string, unknown>)[name];
      return [name, like && typeof like === 'object' ? pick(value as Record<string, unknown>, like) : value];
    }),
  );
};
export const sorted = (rows: string[][]): string[] => rows.map((row) => row.join(' ')).sort();
/** Answers have times to the second. */
const second = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

const subjects: readonly [RegExp, Mail['about']][] = [
  [/no longer verified/, 'failed'],
  [/is verified again/, 'recovered'],
  [/needs new DKIM records/, 'new_records'],
  [/ownership record of .* is gone/, 'ownership_gone'],
  [/is another team’s now/, 'released'],
  [/expires on/, 'expires'],
];
const aboutOf = (subject: string): string => subjects.find(([form]) => form.test(subject))?.[1] ?? subject;
