import { setTimeout as sleep } from 'node:timers/promises';
import type { DnsAnswer } from '@app/dns';
import type { Questions } from '@app/verification';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { until } from '../../test/support/scheduler';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

const nothing = () => Promise.resolve({ kind: 'nxdomain' as const, aliases: [] });
const google = { preference: 1, exchange: 'aspmx.l.google.com' };
const name = (host: string) => `${host}.modes-acme.com`;

let database: TestDatabase;
let gateway: TestGateway;
let key: string;
/** What resolvers say of the MX records of any name. */
let mx: () => Promise<DnsAnswer<typeof google>> = nothing;
const resolver: Questions = {
  mx: () => mx(),
  txt: nothing,
  cname: nothing,
  soa: nothing,
  ns: nothing,
  a: nothing,
  aaaa: nothing,
};

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
  ({ key } = await gateway.key());
  gateway.resolvers.push(resolver);
});
beforeEach(() => {
  mx = nothing;
  gateway.verifier.findings = {};
  gateway.verifier.identity = null;
});
afterAll(async () => {
  await gateway.close();
  await database.drop();
});

const call = (method: string, path: string, body?: unknown, headers?: Record<string, string>) =>
  gateway.call(method, `/api/v1/domains${path}`, {
    key,
    ...(body !== undefined && { body }),
    ...(headers && { headers }),
  });
const add = async (host: string, more: object = {}) =>
  (await call('POST', '', { domain: name(host), ...more })).body.data;
const read = async (id: string) => (await call('GET', `/${id}`)).body.data;
/** Leaves out the times that go on between two reads. */
const withoutTimes = (domain: Awaited<ReturnType<typeof read>>) => ({ ...domain, next_check_at: null });
const createMailbox = (host: string) =>
  gateway.call('POST', '/api/v1/mailboxes', { key, body: { address: `ada@${name(host)}` } });

describe('the mode of a domain', () => {
  it('is send_receive unless the add says otherwise', async () => {
    expect(await add('usual')).toMatchObject({ mode: 'send_receive', dns_records: { mx: [{ priority: 10 }] } });
    expect(await add('said', { mode: 'send_receive' })).toMatchObject({ mode: 'send_receive' });
    const sendOnly = await add('sends', { mode: 'send_only' });
    expect(sendOnly).toMatchObject({ mode: 'send_only', mailbox_count: 0, dns_records: { mx: [] } });
    expect(sendOnly.records.map(({ purpose }) => purpose)).not.toContain('mx');
    expect(withoutTimes(await read(sendOnly.id))).toEqual(withoutTimes(sendOnly));
    const refused = await call('POST', '', { domain: name('odd'), mode: 'receive_only' });
    expect([refused.status, refused.body.error.code]).toEqual([400, 'invalid_parameter']);
  });

  it('send_only has no mailbox, counts the MX as passed, and is upgraded once and for ever', async () => {
    const { id } = await add('upgraded', { mode: 'send_only' });
    gateway.verifier.findings = { mx: { outcome: 'fail' } };
    const refusal = await createMailbox('upgraded');
    expect([refusal.status, refusal.body.error.code]).toEqual([409, 'conflict']);
    expect(refusal.body.error.message).toContain(`only sends mail. Let it receive with PATCH /domains/${id}`);

    const before = await call('GET', `/${id}`);
    const stale = await call('PATCH', `/${id}`, { mode: 'send_receive' }, { 'if-match': 'W/"1"' });
    expect([stale.status, stale.body.error.code]).toEqual([409, 'conflict']);
    expect(withoutTimes(await read(id))).toEqual(withoutTimes(before.body.data));

    const etag = before.headers.get('etag')!;
    const upgraded = await call('PATCH', `/${id}`, { mode: 'send_receive' }, { 'if-match': etag });
    expect(upgraded.status).toBe(200);
    expect(upgraded.body.data).toMatchObject({
      mode: 'send_receive',
      verification_status: 'pending',
      verified_at: null,
      dns_records: { mx: [{ priority: 10, target: 'mail.sendmux.ai' }] },
    });
    expect(upgraded.body.data.records).toContainEqual(
      expect.objectContaining({ purpose: 'mx', status: 'not_checked' }),
    );
    expect(upgraded.headers.get('etag')).not.toBe(etag);
    const again = await call('PATCH', `/${id}`, { mode: 'send_receive' });
    expect([again.status, again.headers.get('etag')]).toEqual([200, upgraded.headers.get('etag')]);

    for (const body of [{ mode: 'send_only' }, {}, { mode: 'send_receive', domain: 'x.example' }])
      expect((await call('PATCH', `/${id}`, body)).status).toBe(400);
    gateway.verifier.findings = {};
    expect((await call('POST', `/${id}/verify`)).body.data.status).toBe('verified');
    const without = new Date().toISOString();
    const mailbox = await createMailbox('upgraded');
    expect(mailbox.status).toBe(201);
    const counts = async () => [
      (await read(id)).mailbox_count,
      (await read(`${id}?as_of=${new Date().toISOString()}`)).mailbox_count,
      (await read(`${id}?as_of=${without}`)).mailbox_count,
    ];
    expect(await counts()).toEqual([1, 1, 0]);
    await gateway.call('POST', `/api/v1/mailboxes/${mailbox.body.data.id}/suspend`, { key });
    expect(await counts()).toEqual([0, 1, 0]);
    const history = await gateway.call('GET', `/api/v1/domains/${id}/history`, { key });
    expect(JSON.stringify(history.body.data)).toContain('is to receive mail too');
  });

  it('is looked at anew after the upgrade, however often it was verified just before', async () => {
    const { id } = await add('often', { mode: 'send_only' });
    for (let looks = 0; looks < 12; looks++) await call('POST', `/${id}/verify`);
    gateway.verifier.findings = { mx: { outcome: 'fail' } };
    await call('PATCH', `/${id}`, { mode: 'send_receive' });
    expect((await call('POST', `/${id}/verify`)).body.data).toMatchObject({ status: 'pending', checks: { mx: false } });
  });

  it('warns of an add that would end the mail of others, and never fails for it', async () => {
    mx = () => Promise.resolve({ kind: 'records', records: [google], aliases: [] });
    const added = (await call('POST', '', { domain: name('elsewhere') })).body.data as unknown as Warned;
    expect(added.warnings).toEqual([
      {
        code: 'mail_is_received',
        severity: 'warning',
        message: expect.stringMatching(
          /^Google Workspace .*with the mode send_only.* or add a name of its own for mail, such as mail\.elsewhere\./,
        ) as string,
      },
    ]);
    mx = () => Promise.resolve({ kind: 'records', records: [google], aliases: ['host.example'] });
    expect(await add('led')).toMatchObject({ warnings: [{ code: 'mail_is_received' }] });
    const ours = { preference: google.preference - 1, exchange: 'mail.sendmux.ai' };
    mx = () => Promise.resolve({ kind: 'records', records: [google, ours], aliases: [] });
    expect(await add('first')).not.toHaveProperty('warnings');
    mx = () => Promise.resolve({ kind: 'records', records: [google], aliases: [] });
    expect(await add('leaves', { mode: 'send_only' })).not.toHaveProperty('warnings');
    mx = () => Promise.resolve({ kind: 'unreachable', reason: 'gone' });
    expect(await add('unknown')).not.toHaveProperty('warnings');
    mx = () => new Promise(() => undefined);
    const since = performance.now();
    expect((await call('POST', '', { domain: name('silent') })).status).toBe(201);
    expect(performance.now() - since).toBeLessThan(20_000);
  });

  it('warns of an upgrade as of an add, and names the way back', async () => {
    mx = () => Promise.resolve({ kind: 'records', records: [google], aliases: [] });
    const upgrade = async (host: string) => {
      const { id } = await add(host, { mode: 'send_only' });
      return (await call('PATCH', `/${id}`, { mode: 'send_receive' })).body.data as unknown as Warned;
    };
    expect((await upgrade('moves')).warnings).toEqual([
      {
        code: 'mail_is_received',
        severity: 'warning',
        message: expect.stringMatching(
          /^Google Workspace .* delete the domain and add it with the mode send_only again, or add a name of its own for mail, such as mail\.moves\./,
        ) as string,
      },
    ]);
    mx = () => Promise.resolve({ kind: 'unreachable', reason: 'gone' });
    expect(await upgrade('unseen')).toMatchObject({ mode: 'send_receive' });
    mx = nothing;
    expect(await upgrade('free')).not.toHaveProperty('warnings');
  });

  it('hides no defect behind a missing warning', async () => {
    mx = () => Promise.reject(new TypeError('a defect'));
    expect((await call('POST', '', { domain: name('defect') })).status).toBe(500);
  });
});

interface Warned {
  readonly warnings?: readonly object[];
}

describe('a domain as it was last seen', () => {
  it('has the status of each record, and what SES says, without a look', async () => {
    const { id } = await add('seen');
    gateway.verifier.findings = {
      mx: {
        outcome: 'fail',
        code: 'mx_wrong_target',
        expected: '10 mail.sendmux.ai',
        observed: ['1 mx.other.example'],
      },
      spf: {
        outcome: 'fail',
        code: 'spf_missing',
        expected: 'v=spf1 include:amazonses.com include:sendmux.ai ~all',
        observed: [],
      },
    };
    const verified = await call('POST', `/${id}/verify`);
    expect(verified.body.data).toMatchObject({
      ses_mail_from_status: 'not_started',
      ses_identity_verification_status: 'success',
      ses_verified_for_sending: true,
      ses_dkim_signing_enabled: true,
      ses_identity_checked_at: verified.body.data.checked_at,
    });
    const looks = gateway.verifier.looks;
    let domain = await read(id);
    expect(domain.records.find(({ purpose }) => purpose === 'mx')).toEqual({
      type: 'MX',
      name: name('seen'),
      host: 'seen',
      value: '10 mail.sendmux.ai',
      ttl: 300,
      purpose: 'mx',
      status: 'wrong',
      code: 'mx_wrong_target',
      last_seen: ['1 mx.other.example'],
      checked_at: verified.body.data.checked_at,
    });
    expect(domain.records.find(({ purpose }) => purpose === 'spf')).toMatchObject({ status: 'missing', last_seen: [] });
    expect(domain).toMatchObject({
      ses_mail_from_status: null,
      ses_identity_verification_status: 'success',
      ses_verified_for_sending: true,
      ses_dkim_signing_enabled: null,
      ses_identity_checked_at: verified.body.data.checked_at,
    });
    expect(gateway.verifier.looks).toBe(looks);
    // A look that finds nothing new says nothing new of any record.
    await sleep(1_100);
    await call('POST', `/${id}/verify`);
    const later = await read(id);
    expect(Date.parse(later.last_checked_at!)).toBeGreaterThan(Date.parse(domain.last_checked_at!));
    expect([later.records, later.ses_identity_checked_at]).toEqual([domain.records, domain.ses_identity_checked_at]);
    domain = later;
    const [listed] = (await call('GET', '?limit=1')).body.data as unknown as (typeof domain)[];
    expect(withoutTimes(listed!)).toEqual(withoutTimes(domain));
  });

  it('says that SES was not asked where it gave no answer', async () => {
    const { id } = await add('unasked');
    gateway.verifier.findings = {
      dkim: { outcome: 'indeterminate', code: 'ses_unavailable' },
      mx: { outcome: 'fail' },
    };
    const { data } = (await call('POST', `/${id}/verify`)).body;
    expect(data.ses_identity_checked_at).toBe((await read(id)).created_at);
    expect(await read(id)).toMatchObject({ ses_identity_checked_at: null, ses_dkim_status: 'pending' });
  });
});

describe('a list of domains', () => {
  let ids: Record<string, string>;

  beforeAll(async () => {
    ({ key } = await gateway.key());
    gateway.verifier.findings = {};
    ids = {};
    for (const [host, mode] of [
      ['one.acme', 'send_only'],
      ['two.acme', 'send_receive'],
      ['three.other', 'send_only'],
      ['four.other', 'send_receive'],
    ])
      ids[host!] = (await add(host!, { mode })).id;
    await call('POST', `/${ids['one.acme']}/verify`);
    await call('POST', `/${ids['two.acme']}/verify`);
    gateway.kept.add(name('two.acme'));
  });

  const list = async (query: string) =>
    ((await call('GET', `?${query}`)).body.data as unknown as { domain: string }[]).map(({ domain }) =>
      domain.replace('.modes-acme.com', ''),
    );

  it('is limited by status, mode and a part of the name, alone and together', async () => {
    expect(await list('')).toEqual(['four.other', 'three.other', 'two.acme', 'one.acme']);
    expect(await list('status=verified')).toEqual(['two.acme', 'one.acme']);
    expect(await list('status=failed')).toEqual([]);
    expect(await list('mode=send_only')).toEqual(['three.other', 'one.acme']);
    expect(await list('mode=send_receive&status=pending')).toEqual(['four.other']);
    expect(await list('name=.ACME.')).toEqual(['two.acme', 'one.acme']);
    expect(await list('name=e.o')).toEqual(['three.other']);
    expect(await list('name=.acme.&mode=send_only&status=verified')).toEqual(['one.acme']);
    expect(await list('name=nobody')).toEqual([]);
  });

  it('goes on from page to page with its filters', async () => {
    const first = await call('GET', '?limit=1&mode=send_only');
    expect(first.body.pagination.has_more).toBe(true);
    expect(await list(`limit=1&mode=send_only&cursor=${first.body.pagination.next_cursor!}`)).toEqual(['one.acme']);
  });

  it('shows a domain that is being deleted as pending, by its filter too', async () => {
    void call('DELETE', `/${ids['two.acme']}`).catch(() => undefined);
    await until(async () => (await list('status=verified')).length < 2);
    expect(await list('status=pending')).toEqual(['four.other', 'three.other', 'two.acme']);
    await gateway.endDeletion(ids['two.acme']!);
  });

  it.each(['status=deleting', 'mode=both', 'name=ac', 'name=a_c%25', 'name=münchen', `name=${'a'.repeat(254)}`])(
    'refuses %s',
    async (query) => {
      const answer = await call('GET', `?${query}`);
      expect([answer.status, answer.body.error.param]).toEqual([400, query.split('=')[0]]);
    },
  );
});
