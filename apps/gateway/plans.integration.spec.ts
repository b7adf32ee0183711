import type { DnsAnswer } from '@app/dns';
import { newId } from '@app/runtime';
import type { Questions } from '@app/verification';
import { Pool } from 'pg';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import type { DnsPlanSchema, PreflightSchema } from './domains/plans.dto';
import type { VerificationSchema } from './domains/verification.dto';

let database: TestDatabase;
let gateway: TestGateway;
let acme: { key: string; team: string; id: string };
let other: { key: string; team: string; id: string };

/** The records in the DNS, by `name TYPE`. */
const dns = new Map<string, unknown[]>();
const resolver = (records = dns): Questions => {
  const ask = <Rr>(type: string) => {
    return (name: string): Promise<DnsAnswer<Rr>> => {
      const found = records.get(`${name} ${type}`) as Rr[] | undefined;
      if (found) return Promise.resolve({ kind: 'records', records: found, aliases: [] });
      const exists = [...records.keys()].some((key) => ` ${key}`.replace(/ [A-Z]+$/, '').match(`[ .]${name}$`));
      return Promise.resolve({ kind: exists ? 'nodata' : 'nxdomain', aliases: [] });
    };
  };
  return {
    mx: ask('MX'),
    txt: ask('TXT'),
    cname: ask('CNAME'),
    soa: ask('SOA'),
    ns: ask('NS'),
    a: ask('A'),
    aaaa: ask('AAAA'),
  };
};
const broken = (kind: 'servfail' | 'unreachable'): Questions => {
  const ask = () => Promise.resolve(kind === 'servfail' ? { kind } : { kind, reason: 'gone' });
  return { mx: ask, txt: ask, cname: ask, soa: ask, ns: ask, a: ask, aaaa: ask };
};

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
  acme = await gateway.key();
  other = await gateway.key();
});
beforeEach(() => {
  dns.clear();
  dns.set('acme.com SOA', [{ primary: 'ns.acme.com', minimum: 60 }]);
  gateway.resolvers.splice(0, Infinity, resolver(), resolver());
});
afterAll(async () => {
  await gateway.close();
  await database.drop();
});

let count = 0;
const freshName = () => `p${++count}.acme.com`;
const add = async (domain = freshName(), key = acme.key): Promise<{ id: string; domain: string }> =>
  (await gateway.call('POST', '/api/v1/domains', { key, body: { domain } })).body.data;
const get = (path: string, key = acme.key) => gateway.call('GET', `/api/v1/domains/${path}`, { key });
const plan = async (id: string) => (await get(`${id}/dns-plan`)).body.data as unknown as DnsPlanSchema;
const preflight = (domain: unknown, key = acme.key) =>
  gateway.call('POST', '/api/v1/domains/preflight', { key, body: { domain } });
const findings = async (domain: string, key?: string) => {
  const answer = await preflight(domain, key);
  expect(answer.status).toBe(200);
  return answer.body.data as unknown as PreflightSchema;
};

/** Publishes all records that the API gives for the domain. */
async function publish(id: string): Promise<void> {
  const records = (await get(id)).body.data.dns_records;
  // A field may have one record, a list, or an object with fields of its own.
  const place = (given: object, domain: string): void => {
    const { name = domain, value, priority, target } = given as Partial<Record<string, string>>;
    if (target !== undefined) dns.set(`${name} MX`, [{ preference: Number(priority), exchange: target }]);
    else if (value === undefined) Object.values(given).forEach((each: object) => place(each, domain));
    else dns.set(`${name} ${name.includes('._domainkey.') ? 'CNAME' : 'TXT'}`, [value]);
  };
  place(records, records.spf.name);
}

describe('permissions', () => {
  const operations = [
    ['GET', '/ID/dns-plan', 'domain.read'],
    ['GET', '/ID/zone-file', 'domain.read'],
    ['POST', '/preflight', 'domain.create'],
  ] as const;
  const call = (method: string, path: string, id: string, key?: string) =>
    gateway.call(method, `/api/v1/domains${path.replace('ID', id)}`, {
      ...(key !== undefined && { key }),
      ...(method === 'POST' && { body: { domain: freshName() } }),
    });

  it.each(operations)('%s %s needs a key, and %s', async (method, path, permission) => {
    const { id } = await add();
    for (const key of [undefined, 'smx_root_x']) {
      const answer = await call(method, path, id, key);
      expect([answer.status, answer.body.error.code]).toEqual([401, 'authentication_required']);
    }
    const withOnly = async (permissions: string[]) =>
      call(method, path, id, (await gateway.accounts.createKey(acme.team, { permissions })).key);
    const all = ['domain.create', 'domain.read', 'domain.verify', 'domain.delete'];
    const lacking = await withOnly(all.filter((one) => one !== permission));
    expect([lacking.status, lacking.body.error.code]).toEqual([403, 'insufficient_permissions']);
    expect(lacking.body.error.message).toContain(permission);
    expect((await withOnly([permission])).status).toBe(200);
    const readOnly = await gateway.accounts.createKey(acme.team, { role: 'root:readonly' });
    expect((await call(method, path, id, readOnly.key)).status).toBe(permission === 'domain.read' ? 200 : 403);
  });

  it.each(['dns-plan', 'zone-file'])(
    'I16 %s of another team’s domain, and of any other id, is not found',
    async (what) => {
      const { id } = await add(freshName(), other.key);
      for (const some of [id, newId('mdom'), 'x', "' OR 1=1"]) {
        const answer = await get(`${encodeURIComponent(some)}/${what}`);
        expect([answer.status, answer.body.error.code]).toEqual([404, 'not_found']);
      }
    },
  );
});

describe('dns_records', () => {
  it('have the host of each record, after the guide’s fields', async () => {
    const { id } = await add('mail.hosts.acme.com');
    const { mx, spf, dmarc, dkim, verification } = (await get(id)).body.data.dns_records;
    expect(mx).toEqual([{ priority: 10, target: 'mail.sendmux.ai', host: 'mail.hosts' }]);
    expect([spf, dmarc, verification, ...dkim].map((record) => [Object.keys(record).join(), record.host])).toEqual(
      [
        'mail.hosts',
        '_dmarc.mail.hosts',
        '_sendmux.mail.hosts',
        ...[1, 2, 3].map((n) => `token${n}._domainkey.mail.hosts`),
      ].map((host) => ['name,value,host', host]),
    );
  });
});

describe('GET zone-file', () => {
  it.each([
    ['', 'text/dns; charset=utf-8', '. 300 IN MX 10 mail.sendmux.ai.'],
    ['?format=bind', 'text/dns; charset=utf-8', ' 300 IN TXT "v=DMARC1; p=quarantine"'],
    ['?format=terraform', 'text/plain; charset=utf-8', 'resource "aws_route53_record"'],
    ['?format=route53', 'application/json; charset=utf-8', '"Action": "CREATE"'],
    ['?format=octodns', 'application/yaml; charset=utf-8', '"_dmarc.p'],
    ['?format=dnscontrol', 'text/javascript; charset=utf-8', 'D_EXTEND("acme.com",'],
    ['?format=nsupdate', 'text/plain; charset=utf-8', 'update add '],
  ])('zone-file%s is %s', async (query, type, part) => {
    const { id } = await add();
    const answer = await get(`${id}/zone-file${query}`);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, type]);
    expect(answer.text).toContain(part);
    expect(answer.headers.get('x-request-id')).toBeTruthy();
    const { domain } = (await get(id)).body.data;
    expect(answer.headers.get('content-disposition')).toMatch(
      new RegExp(`^attachment; filename="${domain.replaceAll('.', '[.]')}[.][a-z]+"$`),
    );
  });

  it.each(['xml', '', 'BIND', 'toString'])('refuses the format %j, and says which there are', async (format) => {
    const answer = await get(`${(await add()).id}/zone-file?format=${format}`);
    expect([answer.status, answer.body.error.code, answer.body.error.param]).toEqual([
      400,
      'invalid_parameter',
      'format',
    ]);
    expect(answer.body.error.message).toContain('bind, terraform, route53, octodns, dnscontrol, nsupdate');
  });

  it('names records relative to the zone that the DNS has, and by the public suffix list when nobody can tell', async () => {
    const { id } = await add('mail.cut.acme.com');
    const text = async () => (await get(`${id}/zone-file?format=dnscontrol`)).text;
    dns.set('cut.acme.com SOA', [{ primary: 'ns.acme.com', minimum: 60 }]);
    expect(await text()).toMatch(/^D_EXTEND\("cut\.acme\.com",\n {2}MX\("mail",/);
    gateway.resolvers.splice(0, Infinity, broken('unreachable'), broken('servfail'));
    expect(await text()).toMatch(/^D_EXTEND\("acme\.com",\n {2}MX\("mail\.cut",/);
  });
});

describe('GET dns-plan', () => {
  it('creates all records in an empty zone, and keeps all once they are there', async () => {
    const { id, domain } = await add();
    const first = await plan(id);
    expect(first).toMatchObject({ domain, zone: 'acme.com', complete: false });
    expect(first.operations.map(({ action, ttl }) => [action, ttl])).toEqual(
      first.operations.map(() => ['create', 300]),
    );
    expect(first.operations[0]).toEqual({
      action: 'create',
      name: domain,
      host: domain.replace('.acme.com', ''),
      type: 'MX',
      values: ['10 mail.sendmux.ai'],
      replaces: [],
      ttl: 300,
      reason: 'Routes inbound mail to Sendmux.',
    });
    await publish(id);
    const second = await plan(id);
    expect(second.complete).toBe(true);
    expect(second.operations.map(({ action, ttl }) => [action, ttl])).toEqual(
      first.operations.map(() => ['keep', null]),
    );
  });

  it('shows octets that cannot be seen as \\DDD', async () => {
    const { id, domain } = await add();
    await publish(id);
    dns.set(`_sendmux.${domain} TXT`, [`sendmux-verify=${acme.team}\xc2\xa0`]);
    const { operations } = await plan(id);
    expect(operations[0]).toMatchObject({
      action: 'replace',
      replaces: [`sendmux-verify=${acme.team}\\194\\160`],
      values: [`sendmux-verify=${acme.team}`],
    });
  });

  it.each([
    ['no resolver answers', 'dns_unreachable', () => [broken('unreachable'), broken('unreachable')]],
    ['all say SERVFAIL', 'dns_servfail', () => [broken('servfail'), broken('servfail')]],
    ['the only one that answers says SERVFAIL', 'dns_unreachable', () => [broken('servfail'), broken('unreachable')]],
    ['they disagree', 'dns_disagreement', () => [resolver(), resolver(new Map([['p.acme.com X', []]]))]],
    [
      'one question has no answer',
      'dns_unreachable',
      () => Array(2).fill({ ...resolver(), txt: broken('unreachable').txt }) as Questions[],
    ],
  ])('is 503 when %s, and so is the preflight', async (_what, code, resolvers) => {
    const { id, domain } = await add();
    await publish(id);
    gateway.resolvers.splice(0, Infinity, ...resolvers());
    for (const answer of [await get(`${id}/dns-plan`), await preflight(domain)]) {
      expect([answer.status, answer.body.error.code, answer.body.error.retryable]).toEqual([
        503,
        'service_unavailable',
        true,
      ]);
      expect(answer.body.error.errors).toMatchObject([{ code }]);
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
    }
  });

  it('uses the resolver that answers when the other does not', async () => {
    const { id } = await add();
    await publish(id);
    gateway.resolvers.splice(0, Infinity, broken('servfail'), resolver());
    expect((await plan(id)).complete).toBe(true);
  });
});

describe('the host of a record', () => {
  it('S3: is the same in dns_records, in the plan and in a fix, also in a zone of its own', async () => {
    const { id, domain } = await add('sub.hosts.acme.com');
    dns.set(`${domain} SOA`, [{ primary: 'ns.acme.com', minimum: 60 }]);
    const { dns_records } = (await get(id)).body.data;
    const hosts = [...JSON.stringify(dns_records).matchAll(/"host":"([^"]+)"/g)].map(([, host]) => host!).sort();
    expect(hosts).toContain('_dmarc.sub.hosts');
    const { zone, operations, warnings } = await plan(id);
    expect(zone).toBe(domain);
    expect(operations.map(({ host }) => host).sort()).toEqual(hosts);
    expect(warnings).toMatchObject([{ code: 'zone_of_its_own', severity: 'info' }]);
    expect(warnings[0]!.message).toContain(`enter @ for ${domain}`);
    const failing = { outcome: 'fail', code: 'x' } as const;
    gateway.verifier.findings = { mx: failing, spf: failing, dmarc: failing, verification_txt: failing };
    const answer = await gateway.call('POST', `/api/v1/domains/${id}/verify`, { key: acme.key });
    gateway.verifier.findings = {};
    const details = (answer.body.data as unknown as VerificationSchema).details;
    const fixed = details.flatMap(({ fix }) => fix).map(({ host }) => host);
    expect(fixed.length).toBeGreaterThan(0);
    expect(hosts).toEqual(expect.arrayContaining(fixed));
  });
});

describe('POST preflight', () => {
  it('blocks what a team at its limit cannot add, with the words of the refusal', async () => {
    const full = await gateway.key();
    await add(freshName(), full.key);
    const pool = new Pool({ connectionString: database.url });
    await pool.query(`UPDATE team_quotas SET allowed = 1 WHERE team = $1 AND kind = 'domains'`, [full.team]);
    await pool.end();
    const domain = freshName();
    const found = await findings(domain, full.key);
    const refused = await gateway.call('POST', '/api/v1/domains', { key: full.key, body: { domain } });
    expect(refused.body.error.code).toBe('limit_exceeded');
    expect(found.can_be_added).toBe(false);
    expect(found.findings[0]).toEqual({
      code: 'limit_reached',
      severity: 'blocking',
      message: refused.body.error.message,
    });
    expect(found.findings[0]!.message).toContain('Your team has 1 domain, and 1 is the most');
    expect((await findings(domain)).can_be_added).toBe(true);
  });

  const codes = ({ findings: all }: PreflightSchema) => all.map(({ code, severity }) => `${severity} ${code}`);

  it('A21 finds nothing in the way of a name that does not exist yet, and creates nothing', async () => {
    const pool = new Pool({ connectionString: database.url });
    const events = async () => (await pool.query<{ count: string }>('SELECT count(*) FROM events')).rows[0]!.count;
    const before = await events();
    const name = freshName();
    const found = await findings(name.toUpperCase());
    expect(found).toMatchObject({
      domain: name,
      zone: 'acme.com',
      can_be_added: true,
      name_exists: false,
      received_by: [],
    });
    expect(codes(found)).toEqual(['info domain_nxdomain']);
    expect(await events()).toBe(before);
    await pool.end();
    expect((await gateway.call('POST', '/api/v1/domains', { key: acme.key, body: { domain: name } })).status).toBe(201);
  });

  it('names who receives the mail now, and what SPF and DMARC there are', async () => {
    const name = freshName();
    dns.set(`${name} MX`, [
      { preference: 5, exchange: 'alt1.aspmx.l.google.com' },
      { preference: 1, exchange: 'aspmx.l.google.com' },
    ]);
    dns.set(`${name} TXT`, ['v=spf1 include:_spf.google.com ~all', 'other']);
    dns.set(`_dmarc.${name} TXT`, ['v=DMARC1; p=none']);
    const found = await findings(name);
    expect(found).toMatchObject({
      can_be_added: true,
      name_exists: true,
      received_by: [
        { priority: 1, target: 'aspmx.l.google.com', provider: 'Google Workspace' },
        { priority: 5, target: 'alt1.aspmx.l.google.com', provider: 'Google Workspace' },
      ],
      spf: ['v=spf1 include:_spf.google.com ~all'],
      dmarc: ['v=DMARC1; p=none'],
      inherited_dmarc: null,
    });
    expect(codes(found)).toEqual(['warning mail_is_received', 'info spf_exists', 'info dmarc_exists']);
    expect(found.findings[0]!.message).toContain('Google Workspace (aspmx.l.google.com) receives the mail');
  });

  it('finds a CNAME, a null MX, two SPF records and an inherited policy', async () => {
    const [aliased, refusing] = [freshName(), freshName()];
    dns.set(`${aliased} CNAME`, ['ghs.google.com']);
    dns.set('_dmarc.acme.com TXT', ['v=DMARC1; p=none; sp=reject']);
    expect(await findings(aliased)).toMatchObject({ cname: 'ghs.google.com', inherited_dmarc: 'reject' });
    expect(codes(await findings(aliased))).toEqual(['warning cname_at_name', 'info dmarc_inherited']);
    dns.set(`${refusing} MX`, [{ preference: 0, exchange: '' }]);
    dns.set(`${refusing} TXT`, ['v=spf1 a ~all', 'v=spf1 mx ~all']);
    expect(codes(await findings(refusing))).toEqual([
      'warning mx_null',
      'warning spf_multiple',
      'info dmarc_inherited',
    ]);
  });

  it('C4 reports mail to an address record, even if the resolvers give different ones', async () => {
    const name = freshName();
    dns.set(`${name} AAAA`, ['2001:db8::1']);
    gateway.resolvers.splice(0, Infinity, resolver(), resolver(new Map([...dns, [`${name} AAAA`, ['2001:db8::2']]])));
    expect(codes(await findings(name))).toEqual(['warning mail_by_address']);
    dns.set(`${name} MX`, [{ preference: 10, exchange: 'mail.sendmux.ai' }]);
    gateway.resolvers.splice(0, Infinity, resolver());
    expect(codes(await findings(name))).toEqual([]);
  });

  it('says that a name is taken, and tells only the team itself by which domain', async () => {
    const { id, domain } = await add();
    await publish(id);
    const own = await findings(domain);
    expect([own.can_be_added, own.findings[0]!.code]).toEqual([false, 'name_taken']);
    expect(own.findings[0]!.message).toContain(id);
    expect(codes(own)).not.toContain('warning mail_is_received');
    const answer = await preflight(domain, other.key);
    expect(answer.body.data).toMatchObject({ can_be_added: false });
    expect(answer.text).toContain(`${domain} is in use and cannot be added.`);
    expect(answer.text).not.toContain(id);
    expect(answer.text).not.toContain(acme.team);
  });

  it.each([
    ['A4', 'https://mail.acme.com/x', 400],
    ['A7', '192.0.2.1', 400],
    ['A15', 'co.uk', 422],
    ['A19', 'foo.local', 422],
    ['A22', null, 400],
    ['A22', 7, 400],
  ])('%s refuses %j as adding it would', async (_row, domain, status) => {
    const answer = await preflight(domain);
    expect([answer.status, answer.body.error.param]).toEqual([status, 'domain']);
  });
});

describe('looks at the DNS for plans', () => {
  /** Counts the questions for the MX records of a name. */
  const counted = (name: string) => {
    const seen = { questions: 0 };
    const asked: Questions = resolver();
    gateway.resolvers.splice(0, Infinity, {
      ...asked,
      mx: (at: string) => {
        if (at === name) seen.questions += 1;
        return asked.mx(at);
      },
    });
    return seen;
  };

  it('are shared by requests for one domain: those at the same time, and those beyond ten within ten seconds', async () => {
    const { id, domain } = await add();
    const seen = counted(domain);
    await Promise.all(Array.from({ length: 20 }, () => plan(id)));
    const ofOneLook = seen.questions;
    for (let i = 0; i < 20; i++) await plan(id);
    expect(seen.questions).toBeLessThanOrEqual(10 * ofOneLook);
    expect(ofOneLook).toBeLessThanOrEqual(10);
  });

  it('of one team wait for each other, and are refused when too many wait', async () => {
    let answer: () => void = () => undefined;
    const answered = new Promise<void>((resolve) => (answer = resolve));
    const asked = resolver();
    gateway.resolvers.splice(0, Infinity, { ...asked, mx: (at: string) => answered.then(() => asked.mx(at)) });
    const many = Array.from({ length: 75 }, (_, i) => preflight(`many${i}.acme.com`));
    const refused = await Promise.race(many);
    expect([refused.status, refused.body.error.code]).toEqual([429, 'rate_limit_exceeded']);
    expect(refused.headers.get('retry-after')).toBe('5');
    // The looks of another team begin all the same.
    const ofOther = preflight('other.acme.com', other.key);
    answer();
    expect((await ofOther).status).toBe(200);
    const statuses = (await Promise.all(many)).map(({ status }) => status);
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(72);
    expect(new Set(statuses)).toEqual(new Set([200, 429]));
  });
});
