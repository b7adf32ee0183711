import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { DomainCommandHandler } from '@app/commands';
import { openPool } from '@app/database';
import { EventStore } from '@app/event-store';
import { AddDomain, CompleteProvisioning } from '@app/mail-domain';
import { domainsProjection } from '@app/read-model';
import { newId } from '@app/runtime';
import { commandsTo } from './support/commands';
import { query, statusOf } from './support/both-or-neither';
import { startSystem, type ApiClient, type System } from './support/processes';

const program = resolve(__dirname, '../bin/sendmux');
const regions = { default: 'eu-west-1', 'us-1': 'us-east-1', 'us-2': 'us-west-2' } as const;
const capacities = { default: 8, 'us-1': 7, 'us-2': 6 } as const;
/** The shards that have tenants. */
const withTenants: readonly string[] = ['default', 'us-1'];

/** Three shards of SES, each a Region of the sandbox, under the built processes. */
describe('several shards of SES', () => {
  let system: System;
  let api: ApiClient;
  let team: string;
  let count = 0;

  beforeAll(async () => {
    const shards = Object.entries(regions).map(([name, region]) => ({
      name,
      region,
      ...(withTenants.includes(name) && { tenantConfigurationSet: 'customers' }),
    }));
    system = await startSystem({
      env: {
        SES_SHARDS: JSON.stringify(
          shards.map((each) => ({ ...each, capacity: capacities[each.name as keyof typeof capacities] })),
        ),
        PROVISIONING_DEADLINE: '8s',
        // A move goes on by the listings, of which there are four in this time.
        VERIFICATION_INTERVAL: '4s',
        SES_TIMEOUT: '1s',
        SES_MOVE_GRACE: '0s',
      },
    });
    for (const region of [regions.default, regions['us-1']])
      await system.sandbox.createConfigurationSet(region, 'customers');
    ({ api, id: team } = await system.team({ owners: ['ada@acme.example'] }));
  });
  afterAll(() => system.end());

  const newName = () => `s${++count}.acme.com`;
  /** Has the next domains go to one shard alone. */
  const open = (only?: string) =>
    query(system.databaseUrl, 'UPDATE ses_shards SET is_draining = name <> $1 AND $1 <> $2', [only ?? '', '']);
  const added = async (name = newName()) => {
    const answer = await api.add(name);
    expect([answer.status, name]).toEqual([201, name]);
    return (answer.body as { data: { id: string } }).data.id;
  };
  const domain = async (id: string) =>
    ((await api.get(id)).body as { data: { dns_records: { dkim: { name: string }[] }; verification_status: string } })
      .data;
  const events = (id: string) =>
    query<{ type: string; data: { sesShard?: string } }>(
      system.databaseUrl,
      'SELECT type, data FROM events WHERE stream = $1 ORDER BY version',
      [id],
    );
  const has = async (id: string, type: string) => (await events(id)).some((event) => event.type === type);
  const shardOf = async (id: string) => (await events(id))[0]!.data.sesShard!;
  /** The Regions that have an identity with the tag of a domain. */
  const regionsOf = async (id: string) =>
    (await system.sandbox.identities()).filter(({ tags }) => tags[0]?.Value === id).map(({ region }) => region);
  const sendmux = (...args: string[]) =>
    new Promise<{ status: number | null; stdout: string; stderr: string }>((done) => {
      const child = spawn(program, args, { env: { ...system.settings, SES_TIMEOUT: '30s' } });
      const said = { stdout: '', stderr: '' };
      for (const stream of ['stdout', 'stderr'] as const)
        child[stream].setEncoding('utf8').on('data', (text: string) => (said[stream] += text));
      child.once('close', (status) => done(Object.assign({ status }, said)));
    });
  const shards = async () => JSON.parse((await sendmux('ses', 'shards', '--json')).stdout) as Record<string, unknown>[];

  it('have the identities of the domains that their events name', async () => {
    const ids = await Promise.all(Array.from({ length: 9 }, () => added()));
    const chosen = await Promise.all(ids.map(shardOf));
    expect(new Set(chosen).size).toBeGreaterThan(1);
    for (const [i, id] of ids.entries())
      expect(await regionsOf(id)).toEqual([regions[chosen[i] as keyof typeof regions]]);
    const of = (name: string) => chosen.filter((each) => each === name).length;
    expect(await shards()).toMatchObject(
      Object.entries(capacities).map(([name, capacity]) => ({
        name,
        region: regions[name as keyof typeof regions],
        capacity,
        identities: of(name),
        headroom: capacity - of(name),
        isDraining: false,
      })),
    );
    for (const id of ids) expect((await api.delete(id)).status).toBe(200);
    expect(await system.sandbox.identities()).toEqual([]);
  });

  it('one that goes away takes no new domains and fails none of the others, and is used again when it is back', async () => {
    await system.sandbox.limitRegion(regions.default, { is_away: true });
    const lost = newName();
    await open('default');
    const { status } = await api.add(lost);
    await open();
    expect([503, 504]).toContain(status);
    const ids = await Promise.all(Array.from({ length: 4 }, () => added()));
    for (const shard of await Promise.all(ids.map(shardOf))) expect(shard).not.toBe('default');
    expect(await shards()).toContainEqual(expect.objectContaining({ name: 'default', isFailing: true }));
    for (const id of ids) expect((await api.delete(id)).status).toBe(200);
    await system.sandbox.limitRegion(regions.default, { is_away: false });
    await system.until('the add is rolled back', async () => (await statusOf(system, lost)) === 'rolled_back');
    await system.until('the shard is used again', async () =>
      (await shards()).some(({ name, isFailing }) => name === 'default' && !isFailing),
    );
    await open('default');
    const again = await added(lost);
    expect(await regionsOf(again)).toEqual([regions.default]);
    await open();
    await api.delete(again);
  });

  it('a move that is killed at every step ends whole, and the domain stays verified', async () => {
    const name = newName();
    await open('default');
    const id = await added(name);
    await open();
    await system.sandbox.place((await api.get(id)).body);
    expect((await api.verify(id)).body).toMatchObject({ data: { status: 'verified' } });
    const killed = async (after: string) => {
      await system.until(after, () => has(id, after));
      await system.kill('provisioning');
      await system.start('provisioning');
    };
    const moved = sendmux('ses', 'move', name, '--to', 'us-1', '--json');
    await killed('IdentityMoveRequested');
    await system.until('the new identity is there', () => has(id, 'IdentityMovePrepared'));
    expect(JSON.parse((await moved).stdout)).toMatchObject({ name, from: 'default', to: 'us-1', step: 'prepared' });
    await system.kill('provisioning');
    expect((await regionsOf(id)).sort()).toEqual(['eu-west-1', 'us-east-1']);
    const during = await domain(id);
    expect([during.dns_records.dkim.length, during.verification_status]).toEqual([6, 'verified']);
    await system.until('the owner is told', async () =>
      (await system.sandbox.mails('ada@acme.example')).some(
        ({ subject }) => subject === `${name} needs further DKIM records`,
      ),
    );
    await system.start('provisioning');
    expect((await api.verify(id)).body).toMatchObject({ data: { status: 'verified' } });
    await system.sandbox.place((await api.get(id)).body);
    await killed('IdentityMoved');
    await system.until('the old identity is gone', () => has(id, 'IdentityMoveCompleted'));
    expect(await regionsOf(id)).toEqual(['us-east-1']);
    const tenants = await system.sandbox.tenants();
    expect(tenants[`eu-west-1/${team}`]).not.toContain(`identity/${name}`);
    expect(tenants[`us-east-1/${team}`]).toContain(`identity/${name}`);
    const after = await domain(id);
    expect(after.dns_records.dkim).toEqual(during.dns_records.dkim.slice(3));
    expect(after.verification_status).toBe('verified');
    expect((await api.verify(id)).body).toMatchObject({ data: { status: 'verified', ses_dkim_status: 'success' } });
    await system.until('mail leaves through the relay of the shard', async () => {
      const sql = `SELECT nexthop FROM mail_relays WHERE sender = $1`;
      const [relay] = await query<{ nexthop: string }>(system.mailServerDatabaseUrl, sql, [`@${name}`]);
      return relay?.nexthop === '[email-smtp.us-east-1.amazonaws.com]:587';
    });
    await api.delete(id);
    expect(await regionsOf(id)).toEqual([]);
  });

  it('those with tenants have each domain in that of its team, those from before once an operator asks for it', async () => {
    const isIn = async (name: string) =>
      Object.entries(await system.sandbox.tenants()).flatMap(([tenant, has]) =>
        has.includes(`identity/${name}`) ? [tenant] : [],
      );
    /** The tenant that the mail of a domain names; null for none. */
    const tenantOf = async (name: string) => {
      const sql = 'SELECT tenant FROM mail_tenants WHERE sender = $1';
      return (await query<{ tenant: string | null }>(system.mailServerDatabaseUrl, sql, [name]))[0]?.tenant ?? null;
    };
    const [name, without, before] = [newName(), newName(), newName()];
    await open('default');
    const id = await added(name);
    expect(await isIn(name)).toEqual([`eu-west-1/${team}`]);
    await system.until('its mail names the tenant', async () => (await tenantOf(name)) === team);
    await open('us-2');
    const idWithout = await added(without);
    expect([await isIn(without), await tenantOf(without)]).toEqual([[], null]);
    expect((await sendmux('ses', 'tenant', without)).stderr).toMatch(/The shard of .* has no tenant for it/);

    await open();
    await system.kill('provisioning');
    const idBefore = newId('mdom');
    const pool = openPool(system.databaseUrl, 1);
    try {
      const commands = commandsTo(new DomainCommandHandler(new EventStore(pool, domainsProjection)));
      const { tokens } = await system.sandbox.plantIdentity(before, idBefore);
      const context = { at: new Date().toISOString(), actor: 'provisioning', correlationId: newId('req') };
      await commands.execute(new AddDomain(idBefore, { name: before, team, deadline: context.at }, context));
      const keys = { dkimTokens: tokens, dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1' };
      await commands.execute(new CompleteProvisioning(idBefore, { ...keys, sesDkimStatus: 'pending' }, context));
    } finally {
      await pool.end();
    }
    const sql = 'INSERT INTO mail_domains (domain, domain_id) VALUES ($1, $2)';
    await query(system.mailServerDatabaseUrl, sql, [before, idBefore]);
    await system.start('provisioning');
    const all = await sendmux('ses', 'tenant', '--all', '--json');
    expect(JSON.parse(all.stdout)).toEqual([{ name: before, tenant: team }]);
    expect(await isIn(before)).toEqual([`eu-west-1/${team}`]);
    await system.until('its mail names the tenant', async () => (await tenantOf(before)) === team);
    expect(await sendmux('ses', 'tenant', '--all', '--json')).toMatchObject({ status: 0, stdout: '[]\n' });

    for (const each of [id, idWithout, idBefore]) expect((await api.delete(each)).status).toBe(200);
    expect((await system.sandbox.tenants())[`eu-west-1/${team}`]).toEqual(['configuration-set/customers']);
    expect(await sendmux('ses', 'remove-tenant', team)).toMatchObject({ status: 2 });
  });

  it('the tenants of a team that is deleted are removed by an operator', async () => {
    const other = await system.team();
    await open('us-1');
    const answer = await other.api.add(newName());
    await open();
    await other.api.delete((answer.body as { data: { id: string } }).data.id);
    expect(Object.keys(await system.sandbox.tenants())).toContain(`us-east-1/${other.id}`);
    expect(await sendmux('team', 'delete', other.id, '--yes')).toMatchObject({ status: 0 });
    const removed = { team: other.id, shards: ['us-1'] };
    expect(JSON.parse((await sendmux('ses', 'remove-tenant', other.id, '--json')).stdout)).toEqual(removed);
    expect(Object.keys(await system.sandbox.tenants())).not.toContain(`us-east-1/${other.id}`);
    expect((await sendmux('ses', 'remove-tenant', other.id)).stdout).toMatch(/No shard has the tenant/);
  });

  it('one is emptied by an operator, and a move that nobody answers is cancelled', async () => {
    await open('us-1');
    const [first, second] = [await added(), await added()];
    await open();
    expect((await sendmux('ses', 'drain', 'us-1')).stdout).toMatch(/^us-1 takes no new domains/);
    const all = await sendmux('ses', 'move', '--from', 'us-1', '--json');
    expect(JSON.parse(all.stdout)).toMatchObject({ from: 'us-1', left: { movable: 0 } });
    // What waits for its owner is left out of the next run.
    const again = await sendmux('ses', 'move', '--from', 'us-1', '--json');
    expect(JSON.parse(again.stdout)).toMatchObject({ outcomes: [], left: { movable: 0, moving: 2 } });
    const { name } = (JSON.parse(all.stdout) as { outcomes: { name: string }[] }).outcomes[0]!;
    expect(JSON.parse((await sendmux('ses', 'move', name, '--cancel', '--json')).stdout)).toMatchObject({
      step: 'cancelled',
    });
    expect(await regionsOf(name === `s${count - 1}.acme.com` ? first : second)).toEqual(['us-east-1']);
    expect((await sendmux('ses', 'move', name, '--to', 'us-9')).stderr).toMatch(/There is no shard us-9/);
    expect((await sendmux('ses', 'move', name, '--to', 'us-1')).stderr).toMatch(/is in the shard us-1 already/);
    for (const id of [first, second]) await api.delete(id);
    await sendmux('ses', 'undrain', 'us-1');
  });
});
